"""ANP, activity-based node perturbation: correlate the loss with what the activities did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from noisynets.core.types import Report
from noisynets.rules.rule import Rule, Scaling, along, directional


def credit(reports: Sequence[Report], dloss: Tensor, scaling: Scaling) -> Iterator[Tensor]:
    """credit_l = δL δa_l N / ‖δa‖², with N and the norm over all nodes, the output's included.

    Needs no knowledge of the noise: with two passes of a system that is noisy by itself the
    same formula holds. Not unbiased: δa_l also holds the noise that came from upstream, which
    δL counts already, so that E[δL δa_l] = Cov(δa_l) ∂L/∂a_l; a descent direction all the same.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965); for noisy
    systems the code of arXiv 2412.12783.
    """
    factor = directional(reports, dloss, scaling)
    return (along(factor, r) for r in reports)


ANP = Rule(
    "anp",
    "activity-based node perturbation: loss difference times activity difference (1 + K)",
    credit,
)
