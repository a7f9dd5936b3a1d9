"""Settings of the estimators: what is injected, and how credit is made of what passes show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from noisynets.core.errors import InputError
from noisynets.core.noise import SAMPLERS
from noisynets.core.settings import (
    DTYPES,
    ENVIRONMENT,
    HOW,
    NOISE,
    SPIKING,
    TrialSettings,
    derived,
    setting,
)
from noisynets.estimators.methods import tuned
from noisynets.rules import SCALINGS
from noisynets.rules.credit.feedback import ALWAYS, EVERY
from noisynets.rules.credit.lag import LONGEST


@dataclass(frozen=True, kw_only=True)
class PerturbationSettings(TrialSettings):
    """Settings of an estimator.

    Attributes:
        injection_seed: of the injected noise, and of what rules draw.
    """

    sigma: float | Literal["auto"] | None = setting(
        None,
        lambda: (
            "Standard deviation of the injected noise, in units of the activities (of the weights "
            "for wp and spsa); auto: measured on the first batches, before training. "
            f"Unset: {tuned('sigma')}; for a system with noise of its own: "
            f"{tuned('sigma_in_noise', 'else nothing is injected')}."
        ),
        metavar="FLOAT|auto",
        group=HOW,
        above=0,
        common=True,
        used_by=("rules that inject",),
    )
    resamples: int = setting(
        1,
        "K, noisy passes per reference pass (per layer for inp).",
        group=HOW,
        at_least=1,
        at_most=100_000,
        used_by=("rules that inject",),
    )
    noise: str | None = setting(
        None,
        lambda: (
            f"Distribution of the injected noise: {', '.join(SAMPLERS)}. Unset: the rule's; at "
            "nodes on a CPU, gaussian-table for gaussian."
        ),
        group=NOISE,
        choices=SAMPLERS,
        used_by=("rules that inject",),
    )
    scaling: str = setting(
        "count",
        "Scaling of inp and anp: count (N/‖δa‖²), root (√N/‖δa‖²) or variance (1/σ²).",
        group=HOW,
        choices=SCALINGS,
        used_by=("rules that inject", "rules that scale"),
    )
    loss_gradient: str = setting(
        "known",
        "Error at the output that feedback rules start from: known, the loss's derivative; "
        "measured, from differences of the loss.",
        group=HOW,
        choices=("known", "measured"),
        used_by=("feedback rules", "examples"),
    )
    pairs_every: int | Literal["auto"] = setting(
        EVERY,
        f"Feedback rules learn from a pair in one step of so many, after the first {ALWAYS} steps. "
        "A smaller number follows weights that change quickly. auto: rules with mirrors measure "
        f"how far these lag behind, and make pairs as often as it takes, at least one in {LONGEST} "
        "steps.",
        metavar="INT|auto",
        group=HOW,
        at_least=1,
        used_by=("rules that learn feedback",),
        since="0.5",
    )
    correction: float = setting(
        0.0,
        "Share of what the loss differences show beyond the credit of a feedback rule, which is "
        "added to it.",
        group=HOW,
        at_least=0,
        at_most=1,
        used_by=("feedback rules",),
    )
    product_dtype: str | None = setting(
        None,
        "Precision of the products of credit and inputs; bfloat16 is quicker where the processor "
        "has it, and no less exact than the credit. Unset: as --dtype.",
        group=HOW,
        kind="dtype",
        choices=DTYPES,
        used_by=("rules that credit nodes", "examples"),
    )
    physical: str | None = setting(
        None,
        "Operations (softmax, norm) and paths of modules, with commas, that are declared physical: "
        "feedback passes them by measured gains and learned credit alone.",
        metavar="NAMES",
        group=HOW,
        used_by=("feedback rules", "examples"),
    )
    credit_over: str | None = setting(
        None,
        "steps gives credit to every step, trial to the mean over a trial, in memory that does not "
        "grow with it. Unset: trial; steps for events in time.",
        group=SPIKING,
        kind="phase of the credit",
        choices=("steps", "trial"),
        used_by=("spiking systems", "rules that credit nodes", "examples"),
    )
    verify: bool = setting(
        True,
        "Check on the first batch, in at most 6 more passes, that rows do not mix, that no noise "
        "is unknown, and that weights act through their layers alone.",
        group=HOW,
        used_by=("rules that credit nodes",),
    )
    discount: float = setting(
        0.99,
        "Weight in a credit of a reward that comes one step later. The return that is reported is "
        "not discounted.",
        group=ENVIRONMENT,
        at_least=0,
        at_most=1,
        used_by=("environments", "rules that credit nodes"),
    )
    position_discount: float = setting(
        0.5,
        "Weight in a position's credit of the loss one position later. 0: its own loss alone, "
        "which misses what keys and values do; 1: all later losses, unbiased and noisier.",
        group=HOW,
        at_least=0,
        at_most=1,
        used_by=("rules that tell positions apart",),
        since="0.5",
    )
    injection_seed: int = derived(0)

    @property
    def injected(self) -> float | None:
        """σ as a number; None: nothing is injected.

        Raises:
            InputError: if it has yet to be measured; see `noisynets.diagnose.settled`.
        """
        if isinstance(self.sigma, str):
            raise InputError("--sigma auto: is measured for single runs alone: give a number here")
        return self.sigma

    @property
    def declared_physical(self) -> tuple[str, ...]:
        """Names of what is declared physical."""
        names = (self.physical or "").split(",")
        return tuple(name.strip() for name in names if name.strip())

    @property
    def products(self) -> torch.dtype | None:
        """In which credit and inputs are multiplied; None: as the passes."""
        return None if self.product_dtype is None else DTYPES[self.product_dtype]
