"""NP, node perturbation: correlate the loss with the noise that was injected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from noisynets.core.types import Report
from noisynets.rules.rule import Rule, Scaling, mean_over_passes


def credit(reports: Sequence[Report], dloss: Tensor, scaling: Scaling) -> Iterator[Tensor]:
    """credit_l = δL ξ_l / σ².

    Unbiased for small σ; its variance grows with the number of nodes. Needs to know ξ.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965).
    """
    return (_report_credit(report, dloss[report.own]) for report in reports)


def _report_credit(report: Report, dloss: Tensor) -> Tensor:
    assert report.xi is not None and report.sigma is not None, "NP reads the injected noise"
    return mean_over_passes(dloss / report.sigma**2, report.xi)


NP = Rule(
    "np",
    "node perturbation: loss difference times injected noise (1 + K passes, unbiased)",
    credit,
    reads_noise=True,
    scaled=False,
)
