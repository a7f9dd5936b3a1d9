"""What `--rule` can name: an estimator, decorrelated or not, with its tuned settings.

The settings were chosen on the validation set by `examples/tune.py`; docs/results/tuning.md has
the table. This is the one place where they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.types import Estimator, Loss, RollOut
from noisynets.estimators.node_perturbation import Backpropagation, NodePerturbation
from noisynets.estimators.roll_out import ENTERED, RollOutPerturbation
from noisynets.estimators.roll_out_credit import RollOutFeedback
from noisynets.estimators.weight_space import SPSA, WeightPerturbation
from noisynets.rules import RULES
from noisynets.rules.credit import FEEDBACKS, Corrected
from noisynets.systems.blackbox import HardwareAware, PhysicsAware, box_model


@dataclass(frozen=True)
class Perturbation:
    """Settings of an estimator that perturbs.

    Attributes:
        sigma: standard deviation of the injected noise; None: nothing is injected.
        resamples: K.
        noise: distribution of the injected noise.
        scaling: of the rules that scale by a norm.
        seed: of the injected noise.
        credit_over: 'steps' or 'trial', for systems that live in time; None: the estimator's.
        noise_over: whether noise is injected anew in every 'step', or once per 'trial'.
        loss_gradient: of feedback: 'known', or 'measured' from the loss's differences.
        correction: share of what δL says beyond the feedback's credit that is added to it.
        discount: of rewards that come later, in an environment.
        product_dtype: in which credit and inputs are multiplied; None: as the passes.
    """

    sigma: float | None
    resamples: int
    noise: str
    scaling: str
    seed: int
    credit_over: str | None = None
    noise_over: str = "step"
    loss_gradient: str = "known"
    correction: float = 0.0
    discount: float = 1.0
    product_dtype: torch.dtype | None = None


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
    """

    name: str
    summary: str
    make: Callable[[nn.Module, Loss, Perturbation], Estimator]
    lr: float
    sigma: float | None
    sigma_in_noise: float | None = None
    decor_lr: float = 0.0
    perturbs: Literal["nodes", "weights", "nothing"] = "nodes"
    noise: str = "gaussian"
    adam_beta2: float = 0.999


def _node(system: nn.Module, loss: Loss, p: Perturbation, *, rule: str) -> Estimator:
    if isinstance(system, RollOut) and rule in ENTERED:
        return RollOutPerturbation(
            system,
            loss,
            rule,
            sigma=p.sigma,
            resamples=p.resamples,
            noise=p.noise,
            scaling=p.scaling,
            seed=p.seed,
            discount=p.discount,
        )
    made = Corrected(FEEDBACKS[rule](p.seed), p.correction) if p.correction else rule
    if isinstance(system, RollOut):
        return RollOutFeedback(
            system,
            loss,
            made,
            sigma=p.sigma,
            resamples=p.resamples,
            noise=p.noise,
            seed=p.seed,
            discount=p.discount,
        )
    return NodePerturbation(
        system,
        loss,
        made,
        sigma=p.sigma,
        resamples=p.resamples,
        noise=p.noise,
        scaling=p.scaling,
        seed=p.seed,
        credit_over=p.credit_over,
        noise_over=p.noise_over if p.sigma is not None else "step",
        loss_gradient=p.loss_gradient,
        product_dtype=p.product_dtype,
    )


def _weights(
    system: nn.Module,
    loss: Loss,
    p: Perturbation,
    *,
    estimator: type[WeightPerturbation] | type[SPSA],
) -> Estimator:
    if p.sigma is None:
        raise InputError("weight perturbation needs a sigma, in units of the weights")
    return estimator(system, loss, sigma=p.sigma, resamples=p.resamples, noise=p.noise, seed=p.seed)


def _backpropagation(system: nn.Module, loss: Loss, p: Perturbation) -> Estimator:
    return Backpropagation(system, loss)


def _offline(system: nn.Module, loss: Loss, p: Perturbation) -> Estimator:
    return Backpropagation(box_model(system), loss)


def _aware(system: nn.Module, loss: Loss, p: Perturbation, *, nodes: bool = False) -> Estimator:
    return Backpropagation(HardwareAware(system, nodes, p.seed), loss)


def _physics_aware(
    system: nn.Module, loss: Loss, p: Perturbation, *, ends: bool = False
) -> Estimator:
    return Backpropagation(PhysicsAware(system, ends), loss)


def _decorrelated(method: Method, lr: float, decor_lr: float = 1e-4) -> Method:
    return replace(
        method,
        name=f"d{method.name}",
        summary=f"{method.name} on decorrelated inputs",
        lr=lr,
        decor_lr=decor_lr,
    )


NP = Method("np", RULES["np"].summary, partial(_node, rule="np"), lr=4e-3, sigma=1e-2)
INP = Method("inp", RULES["inp"].summary, partial(_node, rule="inp"), lr=2e-3, sigma=1e-2)
ANP = Method("anp", RULES["anp"].summary, partial(_node, rule="anp"), lr=3e-3, sigma=1e-2)
MIRRORED = Method(
    "mirrored",
    "mirrored credit: each layer's map learnt from pairs, units' gains measured (best)",
    partial(_node, rule="mirrored"),
    adam_beta2=0.99,
    lr=3e-3,
    sigma=1e-2,
)
KOLEN_POLLACK = replace(
    MIRRORED,
    name="kolen-pollack",
    summary="mirrored credit whose maps take over what training does to the weights",
    make=partial(_node, rule="kolen-pollack"),
)
LEARNED = Method(
    "learned",
    "learned credit: feedback from the output taught by the loss differences",
    partial(_node, rule="learned"),
    adam_beta2=0.99,
    lr=3e-3,
    sigma=1e-2,
)
INNOVATION = Method(
    "innovation",
    "anp along what entered at each node, without what came from upstream (unbiased)",
    partial(_node, rule="innovation"),
    lr=3e-3,
    sigma=1e-2,
)
SHARE = Method(
    "share",
    "innovation, with the output's error exact and its share taken out (unbiased)",
    partial(_node, rule="share"),
    lr=3e-3,
    sigma=1e-2,
)
DFA = Method(
    "dfa",
    "direct feedback alignment: random feedback from the output (control)",
    partial(_node, rule="dfa"),
    adam_beta2=0.99,
    lr=3e-3,
    sigma=1e-2,
)
FA = Method(
    "fa",
    "feedback alignment: random feedback layer by layer (control)",
    partial(_node, rule="fa"),
    adam_beta2=0.99,
    lr=3e-3,
    sigma=1e-2,
)
FROZEN = Method(
    "frozen",
    "the output layer alone, by its exact error (control)",
    partial(_node, rule="frozen"),
    adam_beta2=0.99,
    lr=1e-2,
    sigma=1e-2,
)
BP = Method(
    "bp",
    "backpropagation: the exact gradient (straight through hard units, surrogates of spikes)",
    _backpropagation,
    adam_beta2=0.99,
    lr=3e-3,
    sigma=None,
    perturbs="nothing",
)
WP = Method(
    "wp",
    "weight perturbation, one-sided (1 + K passes)",
    partial(_weights, estimator=WeightPerturbation),
    lr=2e-3,
    sigma=1e-4,
    sigma_in_noise=1e-2,
    perturbs="weights",
)
SPSA_ = Method(
    "spsa",
    "simultaneous perturbation of the weights, two-sided (2K passes)",
    partial(_weights, estimator=SPSA),
    lr=2e-3,
    sigma=1e-4,
    sigma_in_noise=3e-2,
    perturbs="weights",
    noise="rademacher",
)

OFFLINE = Method(
    "offline",
    "of boxes: backpropagation through the perfect model, then transferred (baseline)",
    _offline,
    adam_beta2=0.99,
    lr=1e-3,
    sigma=None,
    perturbs="nothing",
)
AWARE = Method(
    "aware",
    "of boxes: the same, with errors of weights and noise in every pass: hardware-aware (baseline)",
    _aware,
    adam_beta2=0.99,
    lr=1e-3,
    sigma=None,
    perturbs="nothing",
)
ROBUST = Method(
    "robust",
    "of boxes: the same, with every kind of distortion that the chip has (baseline)",
    partial(_aware, nodes=True),
    adam_beta2=0.99,
    lr=1e-3,
    sigma=None,
    perturbs="nothing",
)
PAT = Method(
    "pat",
    "of boxes: forward through the box, backward through its model: physics-aware (baseline)",
    _physics_aware,
    adam_beta2=0.99,
    lr=1e-3,
    sigma=None,
    perturbs="nothing",
)

PAT_ENDS = replace(
    PAT,
    name="pat-ends",
    summary="of boxes: the same, by a model that knows where the converters end (baseline)",
    make=partial(_physics_aware, ends=True),
)

MODELLED = ("offline", "aware", "robust", "pat", "pat-ends")
"""Rules that need a model of a box."""

BEST = "mirrored"
"""What `--rule best` stands for: no other rule here did better without knowing the system."""

BEST_ACTING = "innovation"
"""The same in an environment, which has no error at its output."""

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        NP,
        INP,
        ANP,
        _decorrelated(NP, lr=2e-3),
        _decorrelated(INP, lr=2e-3),
        _decorrelated(ANP, lr=2e-3),
        MIRRORED,
        KOLEN_POLLACK,
        LEARNED,
        INNOVATION,
        SHARE,
        DFA,
        FA,
        FROZEN,
        BP,
        _decorrelated(BP, lr=3e-3),
        WP,
        SPSA_,
        OFFLINE,
        AWARE,
        ROBUST,
        PAT,
        PAT_ENDS,
    )
}
