"""What `--rule` can name: an estimator, decorrelated or not, with its tuned settings.

The settings were chosen on the validation set by `examples/tune.py`; docs/results/tuning.md has
the table. This is the one place where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from noisynets.core.errors import InputError, unknown
from noisynets.core.losses import MeasuredError
from noisynets.core.noise import Injection
from noisynets.core.pages import Page
from noisynets.core.registry import Registry
from noisynets.core.trial import RollOut, has_state
from noisynets.core.types import Estimator, Loss
from noisynets.estimators.backpropagation import Backpropagation
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.position_perturbation import PositionPerturbation
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.estimators.weight_space import SPSA, WeightPerturbation
from noisynets.rules import RULES, Corrected, InTime, OverTrial, Rule, RuleEntry
from noisynets.rules.credit.feedback import Feedback, UpdateSchedule
from noisynets.rules.credit.lag import LagSchedule
from noisynets.systems.blackbox import BlackBox, HardwareAware, PhysicsAware, box_model
from noisynets.systems.devices import model_based as devices
from noisynets.systems.devices.model_based import nominal

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
        needs_model: it needs a model of a box, or of devices.
        needs_box: the model must be that of a box.
        acts: it can train a network that acts in an environment.
        by_position: it tells the positions of a sequence apart.
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
    needs_box: bool = False
    acts: bool = False
    by_position: bool = False
    reads_weight_changes: bool = False
    control: bool = False


def make_rule(entry: RuleEntry, p: PerturbationSettings, system: nn.Module, seed: int) -> Rule:
    """Return a rule with its options, in the combinators that the settings ask for.

    Args:
        entry: of the rule.
        p: settings.
        system: that is trained.
        seed: of what the rule draws.

    Raises:
        InputError: for a scaling that the rule does not have.
    """
    if p.scaling != "count" and "scaling" not in entry.options:
        raise InputError(f"--scaling {p.scaling}: rule {entry.name!r} has none: leave it out")
    rule = entry.make(seed, **{name: getattr(p, name) for name in entry.options})
    if isinstance(rule, Feedback) and entry.sends_error and not entry.uses_dloss:
        rule.schedule = _schedule(entry, p.pairs_every)
    if p.correction:
        rule = Corrected(rule, p.correction)
    if p.credit_over == "trial":
        return OverTrial(rule)
    if p.credit_over == "steps" and isinstance(rule, Feedback) and has_state(system):
        return InTime(rule)
    return rule


def _schedule(entry: RuleEntry, every: int | Literal["auto"]) -> UpdateSchedule:
    if every != "auto":
        return UpdateSchedule(every=every)
    if not entry.traits.mirrors:
        raise InputError(f"--pairs-every auto: rule {entry.name!r} has no mirrors: give a number")
    return LagSchedule()


def node_method(entry: RuleEntry) -> Method:
    """Return the method that `--rule` names, of a rule that gives credit to nodes."""

    def make(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
        noise = p.noise or "gaussian"
        if isinstance(system, RollOut):
            shared: dict[str, Any] = {
                "sigma": p.injected,
                "resamples": p.resamples,
                "noise": noise,
                "seed": p.injection_seed,
                "discount": p.discount,
                "verify": p.verify,
            }
            if entry.roll_out is not None:
                return RollOutPerturbation(system, loss, entry.name, scaling=p.scaling, **shared)
            rule = make_rule(entry, p, system, p.injection_seed)
            return RollOutFeedback(system, loss, rule, **shared)
        sigma = p.injected
        held = p.noise_over == "trial"
        return NodePerturbation(
            system,
            loss,
            make_rule(entry, p, system, p.injection_seed),
            sigma=None if sigma is None else Injection(sigma, noise, p.injection_seed, held),
            resamples=p.resamples,
            error=MeasuredError() if p.loss_gradient == "measured" else None,
            product_dtype=p.products,
            physical=p.declared_physical,
            verify=p.verify,
        )

    return Method(
        entry.name,
        entry.summary,
        make,
        lr=entry.lr,
        sigma=entry.sigma,
        adam_beta2=entry.adam_beta2,
        injects=entry.injects,
        feedback=entry.sends_error,
        from_dloss=entry.uses_dloss,
        taught_by_dloss=entry.traits.taught_by_dloss,
        mirrors=entry.traits.mirrors,
        uses_noise=entry.traits.uses_noise,
        acts=entry.roll_out is not None or entry.sends_error,
        reads_weight_changes=entry.traits.reads_weight_changes,
        control=entry.traits.control,
    )


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


def _positions(
    system: nn.Module, loss: Loss, p: PerturbationSettings, *, known: str | None = None
) -> Estimator:
    if p.scaling != "count":
        raise InputError(
            f"--scaling {p.scaling}: node perturbation by positions has none: leave it out"
        )
    if p.credit_over == "steps":
        raise InputError(
            "--credit-over steps: node perturbation by positions gives it over a trial: use trial"
        )
    if p.injected is None:
        raise InputError("node perturbation by positions needs a sigma, in units of the activities")
    injection = Injection(p.injected, p.noise or "gaussian", p.injection_seed)
    one = replace(p, resamples=1)
    inner = None if known is None else node_method(RULES[known]).make(system, loss, one)
    assert inner is None or isinstance(inner, NodePerturbation), "no rule for environments"
    return PositionPerturbation(
        system,
        loss,
        sigma=injection,
        resamples=p.resamples,
        discount=p.position_discount,
        known=inner,
        verify=p.verify,
    )


def _backpropagation(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    return Backpropagation(system, loss)


def _offline(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    boxed = isinstance(system, BlackBox)
    return Backpropagation(box_model(system) if boxed else nominal(system), loss)


def _aware(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    if isinstance(system, BlackBox):
        return Backpropagation(HardwareAware(system, seed=p.injection_seed), loss)
    model = devices.HardwareAware(system, p.injection_seed)
    return Backpropagation(model, loss, before=model.draw_)


def _robust(system: nn.Module, loss: Loss, p: PerturbationSettings) -> Estimator:
    return Backpropagation(HardwareAware(system, True, p.injection_seed), loss)


def _physics_aware(
    system: nn.Module, loss: Loss, p: PerturbationSettings, *, ends: bool = False
) -> Estimator:
    boxed = isinstance(system, BlackBox)
    model = PhysicsAware(system, ends) if boxed else devices.physics_aware(system)
    return Backpropagation(model, loss)


def _decorrelated(method: Method, lr: float, decor_lr: float = 1e-4) -> Method:
    return replace(
        method,
        name=f"d{method.name}",
        plain=method.name,
        summary=f"{method.name} on decorrelated inputs",
        lr=lr,
        decor_lr=decor_lr,
    )


_BP: dict[str, Any] = {"adam_beta2": 0.99, "sigma": None, "perturbs": "nothing"}
_MODEL: dict[str, Any] = {**_BP, "lr": 1e-3, "needs_model": True}
_BOX: dict[str, Any] = {**_MODEL, "needs_box": True}
_POSITIONS: dict[str, Any] = {
    "lr": 3e-3,
    "sigma": 1e-2,
    "sigma_in_noise": 1e-2,
    "injects": True,
    "from_dloss": True,
    "by_position": True,
}
_WEIGHTS: dict[str, Any] = {"lr": 2e-3, "sigma": 1e-4, "perturbs": "weights", "acts": True}

BP = Method(
    "bp",
    "backpropagation: the exact gradient (straight through hard units, surrogates of spikes)",
    _backpropagation,
    lr=3e-3,
    **_BP,
)

OTHERS: Registry[Method] = Registry(
    "method",
    (
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
            "dust",
            "node perturbation by positions: one node per pass, each position its own differences "
            "(1 + K per node)",
            _positions,
            **_POSITIONS,
        ),
        Method(
            "dust-mirrored",
            "the same for what mirrored credit does not predict: a control variate",
            partial(_positions, known="mirrored"),
            **_POSITIONS,
        ),
        Method(
            "offline",
            "of boxes and devices: backpropagation through the perfect model, then transferred "
            "(baseline)",
            _offline,
            **_MODEL,
        ),
        Method(
            "aware",
            "of boxes and devices: the same, with errors of weights and noise in every pass: "
            "hardware-aware (baseline)",
            _aware,
            **_MODEL,
        ),
        Method(
            "robust",
            "of boxes: the same, with every kind of distortion that the chip has (baseline)",
            _robust,
            **_BOX,
        ),
        Method(
            "pat",
            "of boxes and devices: forward through these, backward through the model: "
            "physics-aware (baseline)",
            _physics_aware,
            **_MODEL,
        ),
        Method(
            "pat-ends",
            "of boxes: the same, by a model that has the limits of the converters (baseline)",
            partial(_physics_aware, ends=True),
            **_BOX,
        ),
    ),
)


class Methods(Mapping[str, Method]):
    """All values of `--rule`: the rules of the registry, decorrelated ones, and `OTHERS`.

    A rule that is registered later is found as well.
    """

    def __init__(self) -> None:
        self._entries: list[RuleEntry | Method] = []
        self._methods: dict[str, Method] = {}

    def __getitem__(self, name: str) -> Method:
        found = self._found()
        if name not in found:
            raise unknown("rule", name, found, page=Page.WHICH_RULE)
        return found[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the method of a name, or `default` if there is none."""
        return self._found().get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    def __contains__(self, name: object) -> bool:
        return name in self._found()

    def _found(self) -> dict[str, Method]:
        entries: list[RuleEntry | Method] = [*RULES.values(), *OTHERS.values()]
        if entries != self._entries:
            self._entries, self._methods = entries, self._made()
        return self._methods

    def _made(self) -> dict[str, Method]:
        made = [(entry, node_method(entry)) for entry in RULES.values()]
        plain = [method for _, method in made if not method.feedback]
        feedback = [method for _, method in made if method.feedback]
        decorrelated = [
            _decorrelated(method, entry.decorrelated_lr)
            for entry, method in made
            if entry.decorrelated_lr is not None
        ]
        methods = [*plain, *decorrelated, *feedback, *OTHERS.values()]
        return {method.name: method for method in methods}


METHODS = Methods()

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
