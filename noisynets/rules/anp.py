"""ANP, activity-based node perturbation: loss difference times activity difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from noisynets.core.record import Needs, Record
from noisynets.rules.roll_outs import differences
from noisynets.rules.rule import RollOutForm, Rule, RuleEntry, Traits
from noisynets.rules.scaling import Scaling, along_differences, count, find_scaling, needs_sigma


@dataclass(frozen=True)
class ANP(Rule):
    """credit_l = δL δa_l N / ‖δa‖², with N and the norm over all nodes, the output's included.

    It does not use the noise: with two passes of a system that has noise of its own the same
    formula holds. Not unbiased: δa_l also contains the noise from upstream, which δL counts
    already. On a chain, E[δL δa_l] = Cov(δa_l) ∂L/∂a_l, a descent direction.

    Args:
        scaling: factor of δL δa.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965); for systems with
    noise of their own the code of arXiv 2412.12783.
    """

    scaling: Scaling = count

    def needs(self, system: nn.Module) -> Needs:
        """Return what the rule needs: activities and losses; σ, if the scaling uses it."""
        return Needs(injection=needs_sigma(self.scaling))

    def __call__(self, record: Record) -> Iterator[Tensor]:
        """Return one credit (B, *out) per call."""
        return along_differences(record.calls, record.dloss, self.scaling)


def make(seed: int = 0, scaling: str = "count") -> ANP:
    """Return the rule with a scaling of `SCALINGS`; it draws nothing by itself."""
    return ANP(find_scaling(scaling))


ENTRY = RuleEntry(
    "anp",
    "activity-based node perturbation: loss difference times activity difference (1 + K)",
    make,
    Traits(),
    options=("scaling",),
    roll_out=RollOutForm(make, differences, options=("scaling",)),
    decorrelated_lr=2e-3,
)
