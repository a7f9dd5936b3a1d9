"""INP, iterative node perturbation: perturb one node at a time, and measure what changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from noisynets.core.record import Needs, NodeRecord, Record
from noisynets.rules.roll_outs import differences
from noisynets.rules.rule import RollOutForm, Rule, RuleEntry, Traits
from noisynets.rules.scaling import Scaling, along, count, directional, find_scaling


@dataclass(frozen=True)
class INP(Rule):
    """credit_l = δL^(l) δa_l N_l / ‖δa_l‖², where pass l perturbs node l alone.

    Unbiased for small σ, and free of the other nodes' noise; it takes 1 + K·nodes passes. N_l and
    the norm count every call of the node in the pass. If there are several calls, the later ones
    also measure the noise of the earlier ones, and the estimate is biased as ANP's is.

    Args:
        scaling: factor of δL δa.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965).
    """

    scaling: Scaling = count

    def needs(self, system: nn.Module) -> Needs:
        """Return what the rule needs: injected noise, at one node per pass."""
        return Needs(injection=True, per_node=True)

    def __call__(self, record: Record) -> Iterator[Tensor]:
        """Return one credit (B, *out) per call."""
        calls: defaultdict[str, list[NodeRecord]] = defaultdict(list)
        for call in record.calls:
            calls[call.node.name].append(call)
        factors = {
            name: directional(same, record.dloss, self.scaling) for name, same in calls.items()
        }
        return (along(factors[call.node.name], call) for call in record.calls)


def make(seed: int = 0, scaling: str = "count") -> INP:
    """Return the rule with a scaling of `SCALINGS`; it draws nothing by itself."""
    return INP(find_scaling(scaling))


ENTRY = RuleEntry(
    "inp",
    "iterative node perturbation: one layer perturbed per pass (1 + K·layers, unbiased)",
    make,
    Traits(unbiased=True),
    options=("scaling",),
    roll_out=RollOutForm(make, differences, options=("scaling",)),
    lr=2e-3,
    decorrelated_lr=2e-3,
)
