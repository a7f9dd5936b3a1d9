"""What `--rule` can name: an estimator, decorrelated or not, with its tuned settings.

The settings were chosen on the validation set by `examples/tune.py`; docs/results/tuning.md has
the table. This is the one place where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.registry import Registry
from noisynets.core.types import Estimator, Loss, RollOut
from noisynets.estimators.node_perturbation import Backpropagation, NodePerturbation
from noisynets.estimators.roll_out import ENTERED, RollOutPerturbation
from noisynets.estimators.roll_out_credit import RollOutFeedback
from noisynets.estimators.weight_space import SPSA, WeightPerturbation
from noisynets.rules import RULES, Rule
from noisynets.rules.credit import FEEDBACKS, Corrected, Feedback
from noisynets.systems.blackbox import Aware, PhysicsAware, believed

if TYPE_CHECKING:
    from noisynets.estimators.settings import PerturbationSettings


@dataclass(frozen=True)
class Method:
    """One value of `--rule`.

    Attributes:
        name: as on the command line.
        summary: one line.
        make: (system, loss, settings) → the estimator.
        lr: tuned learning rate of Adam.
        sigma: tuned standard deviation of what is injected; None: it injects nothing.
        sigma_in_noise: the same for a system with noise of its own; None: it injects nothing.
        decor_lr: tuned rate of decorrelation; 0: not decorrelated.
        perturbs: where it injects: 'nodes' (or nowhere, where the noise is the system's own),
            'weights' or 'nothing'.
        noise: distribution of what it injects.
        adam_beta2: tuned share of Adam's second moments that is kept from step to step.
        plain: name of the method that is the same without decorrelation; None: it has none.
        injects: it works only with injected noise, also in a system with noise of its own.
        feedback: it gives credit to each node by feedback from the output.
        from_dloss: its credit is made of the differences of the loss.
        taught_by_dloss: its feedback is learnt from the differences of the loss.
        mirrors: its feedback is made of learnt mirrors of the layers.
        uses_noise: its credit depends on the noise at the nodes.
        needs_model: it needs a model of a box.
        acts: it can train a network that acts in an environment.
        reads_weight_changes: it reads how training changes the weights.
        control: it shows what other rules must surpass.
    """

    name: str
    summary: str
    make: Callable[[nn.Module, Loss, PerturbationSettings], Estimator]
    lr: float
    sigma: float | None
    sigma_in_noise: float | None = None
    decor_lr: float = 0.0
    perturbs: Literal["nodes", "weights", "nothing"] = "nodes"
    noise: str = "gaussian"
    adam_beta2: float = 0.999
    plain: str | None = None
    injects: bool = False
    feedback: bool = False
    from_dloss: bool = False
    taught_by_dloss: bool = False
    mirrors: bool = False
    uses_noise: bool = True
    needs_model: bool = False
    acts: bool = False
    reads_weight_changes: bool = False
    control: bool = False


Made = str | Rule | Callable[[int], Feedback]
"""A rule: its name, the rule itself, or a maker from a seed."""


def _node(system: nn.Module, loss: Loss, p: PerturbationSettings, *, rule: Made) -> Estimator:
    injection: dict[str, Any] = {
        "sigma": p.injected,
        "resamples": p.resamples,
        "noise": p.noise or "gaussian",
        "seed": p.injection_seed,
    }
    if isinstance(system, RollOut) and isinstance(rule, str) and rule in ENTERED:
        return RollOutPerturbation(
            system, loss, rule, scaling=p.scaling, discount=p.discount, **injection
        )
    made: Any = rule(p.injection_seed) if callable(rule) else rule
    if p.correction:  # a name is left to the estimator, which seeds roll-outs in its own way
        made = FEEDBACKS[made](p.injection_seed) if isinstance(made, str) else made
        made = Corrected(made, p.correction)
    if isinstance(system, RollOut):
        return RollOutFeedback(system, loss, made, discount=p.discount, **injection)
    return NodePerturbation(
        system,
        loss,
        made,
        scaling=p.scaling,
        credit_over=p.credit_over,
        noise_over=p.noise_over if p.sigma is not None else "step",
        loss_gradient=p.loss_gradient,
        product_dtype=p.products,
        **injection,
    )


def node_method(name: str, summary: str, rule: Made | None = None, **declared: Any) -> Method:
    """Return the method of a rule that gives credit to nodes.

    Args:
        name: as on the command line.
        summary: one line.
        rule: None: that of the method's name.
        **declared: tuned settings and traits, as of `Method`.
    """
    return Method(name, summary, partial(_node, rule=name if rule is None else rule), **declared)


def _weights(
    system: nn.Module,
    loss: Loss,
    p: PerturbationSettings,
    *,
    estimator: type[WeightPerturbation] | type[SPSA],
) -> Estimator:
    if p.injected is None:
        raise InputError("weight perturbation needs a sigma, in units of the weights")
    return estimator(
        system,
        loss,
        sigma=p.injected,
        resamples=p.resamples,
        noise=p.noise,
        seed=p.injection_seed,
    )


def _backpropagation(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    return Backpropagation(system, loss)


def _offline(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    return Backpropagation(believed(system), loss)


def _aware(
    system: nn.Module, loss: Loss, p: PerturbationSettings, *, nodes: bool = False
) -> Estimator:
    return Backpropagation(Aware(system, nodes, p.injection_seed), loss)


def _physics_aware(
    system: nn.Module, loss: Loss, p: PerturbationSettings, *, ends: bool = False
) -> Estimator:
    return Backpropagation(PhysicsAware(system, ends), loss)


def _decorrelated(method: Method, lr: float, decor_lr: float = 1e-4) -> Method:
    return replace(
        method,
        name=f"d{method.name}",
        plain=method.name,
        summary=f"{method.name} on decorrelated inputs",
        lr=lr,
        decor_lr=decor_lr,
    )


_RAW: dict[str, Any] = {"sigma": 1e-2, "from_dloss": True, "acts": True}
_FEEDBACK: dict[str, Any] = {"sigma": 1e-2, "feedback": True, "acts": True}
_EXACT: dict[str, Any] = {**_FEEDBACK, "adam_beta2": 0.99}
_BP: dict[str, Any] = {"adam_beta2": 0.99, "sigma": None, "perturbs": "nothing"}
_MODEL: dict[str, Any] = {**_BP, "lr": 1e-3, "needs_model": True}
_WEIGHTS: dict[str, Any] = {"lr": 2e-3, "sigma": 1e-4, "perturbs": "weights", "acts": True}

NP = node_method("np", RULES["np"].summary, lr=4e-3, injects=True, **_RAW)
INP = node_method("inp", RULES["inp"].summary, lr=2e-3, injects=True, **_RAW)
ANP = node_method("anp", RULES["anp"].summary, lr=3e-3, **_RAW)
BP = Method(
    "bp",
    "backpropagation: the exact gradient (straight through hard units, surrogates of spikes)",
    _backpropagation,
    lr=3e-3,
    **_BP,
)

METHODS: Registry[Method] = Registry(
    "rule",
    (
        NP,
        INP,
        ANP,
        _decorrelated(NP, lr=2e-3),
        _decorrelated(INP, lr=2e-3),
        _decorrelated(ANP, lr=2e-3),
        node_method(
            "mirrored",
            "mirrored credit: each layer's map learnt from pairs, units' gains measured (best)",
            lr=3e-3,
            mirrors=True,
            **_EXACT,
        ),
        node_method(
            "kolen-pollack",
            "mirrored credit whose maps take over what training does to the weights",
            lr=3e-3,
            mirrors=True,
            reads_weight_changes=True,
            **_EXACT,
        ),
        node_method(
            "learned",
            "learned credit: feedback from the output taught by the loss differences",
            lr=3e-3,
            taught_by_dloss=True,
            **_EXACT,
        ),
        node_method(
            "innovation",
            "anp along what entered at each node, without what came from upstream (unbiased)",
            lr=3e-3,
            from_dloss=True,
            **_FEEDBACK,
        ),
        node_method(
            "share",
            "innovation, with the output's error exact and its share taken out (unbiased)",
            lr=3e-3,
            from_dloss=True,
            **_FEEDBACK,
        ),
        node_method(
            "dfa",
            "direct feedback alignment: random feedback from the output (control)",
            lr=3e-3,
            control=True,
            **_EXACT,
        ),
        node_method(
            "fa",
            "feedback alignment: random feedback layer by layer (control)",
            lr=3e-3,
            control=True,
            **_EXACT,
        ),
        node_method(
            "frozen",
            "the output layer alone, by its exact error (control)",
            lr=1e-2,
            control=True,
            uses_noise=False,
            **_EXACT,
        ),
        BP,
        _decorrelated(BP, lr=3e-3),
        Method(
            "wp",
            "weight perturbation, one-sided (1 + K passes)",
            partial(_weights, estimator=WeightPerturbation),
            sigma_in_noise=1e-2,
            **_WEIGHTS,
        ),
        Method(
            "spsa",
            "simultaneous perturbation of the weights, two-sided (2K passes)",
            partial(_weights, estimator=SPSA),
            sigma_in_noise=3e-2,
            noise="rademacher",
            **_WEIGHTS,
        ),
        Method(
            "offline",
            "of boxes: backpropagation through the perfect model, then transferred (baseline)",
            _offline,
            **_MODEL,
        ),
        Method(
            "aware",
            "of boxes: the same, with errors of weights and noise in every pass: hardware-aware "
            "(baseline)",
            _aware,
            **_MODEL,
        ),
        Method(
            "robust",
            "of boxes: the same, with every kind of distortion that the chip has (baseline)",
            partial(_aware, nodes=True),
            **_MODEL,
        ),
        Method(
            "pat",
            "of boxes: forward through the box, backward through its model: physics-aware "
            "(baseline)",
            _physics_aware,
            **_MODEL,
        ),
        Method(
            "pat-ends",
            "of boxes: the same, by a model that has the limits of the converters (baseline)",
            partial(_physics_aware, ends=True),
            **_MODEL,
        ),
    ),
)

BEST = "mirrored"
"""What `--rule best` stands for: no other rule here did better without knowing the system."""

BEST_ACTING = "innovation"
"""The same in an environment, which has no error at its output."""


def tuned(setting: str, *rest: str) -> str:
    """List the tuned values of a setting, rule by rule."""
    rules: dict[float, list[str]] = {}
    for method in METHODS.values():
        if found := getattr(method, setting):
            rules.setdefault(found, []).append(method.name)
    tuned = [f"{found:g} ({', '.join(names)})" for found, names in rules.items()]
    return ", ".join([*tuned, *rest])
