"""Settings of an estimator that cannot work together."""

from __future__ import annotations

from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.losses import OutputError
from noisynets.core.noise import Injection
from noisynets.core.pages import Page
from noisynets.core.record import Needs
from noisynets.core.trial import RollOut
from noisynets.rules import Rule


def check_system(system: nn.Module, resamples: int) -> None:
    """Refuse a network that acts, and fewer than one noisy pass."""
    if isinstance(system, RollOut):
        raise InputError(
            "passes of a network that acts receive different inputs: use RollOutPerturbation or "
            "RollOutFeedback",
            page=Page.POLICIES,
        )
    if resamples < 1:
        raise InputError(f"resamples {resamples} must be at least 1")


def check_needs(
    rule: Rule, needs: Needs, injection: Injection | None, error: OutputError | None
) -> None:
    """Refuse settings that a rule cannot work with."""
    name = type(rule).__name__
    if needs.injection and injection is None:
        raise InputError(
            f"{name} needs injected noise, and sigma=None injects none: use 'anp', or give a "
            "sigma, at least that of the system's own noise, to inject in addition",
            page=Page.OWN_NOISE,
        )
    if injection is not None and injection.per_trial and (needs.steps or not needs.averages):
        raise InputError(
            "noise that is the same in all steps shows nothing about single steps: use "
            "OverTrial(rule) (--credit-over trial), or noise drawn in every step"
        )
    if error is not None and not needs.error:
        raise InputError(f"{name} does not use the error at the output: leave out `error`")
    if error is not None and needs.exact_error and not error.exact:
        raise InputError(f"{name} needs the known error at the output: both come from δL")
