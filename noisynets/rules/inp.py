"""INP, iterative node perturbation: perturb one node at a time and measure what it did."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from torch import Tensor

from noisynets.core.types import Report
from noisynets.rules.rule import Rule, Scaling, along, directional


def credit(reports: Sequence[Report], dloss: Tensor, scaling: Scaling) -> Iterator[Tensor]:
    """credit_l = δL^(l) δa_l N_l / ‖δa_l‖², where pass l perturbs layer l alone.

    Unbiased for small σ, and free of the other layers' noise; costs 1 + K·layers passes. N_l
    and the norm count every call of the layer in the pass; where there are several, the later
    ones measure the noise of the earlier ones too, and the estimate is biased like ANP's.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965).
    """
    calls: defaultdict[str, list[Report]] = defaultdict(list)
    for report in reports:
        calls[report.node.name].append(report)
    factors = {name: directional(same, dloss, scaling) for name, same in calls.items()}
    return (along(factors[r.node.name], r) for r in reports)


INP = Rule(
    "inp",
    "iterative node perturbation: one layer perturbed per pass (1 + K·layers, unbiased)",
    credit,
    in_turn=True,
)
