"""Learned credit: directly from the error at the output, taught by the loss differences."""

from __future__ import annotations

from noisynets.rules.credit.direct import DirectFeedback
from noisynets.rules.credit.direct_maps import DirectMaps, learned_map
from noisynets.rules.rule import RuleEntry, Traits


def make(seed: int = 0) -> DirectFeedback:
    """Return the rule; it draws nothing."""
    return DirectFeedback(DirectMaps(learned_map, taught=True))


ENTRY = RuleEntry(
    "learned",
    "learned credit: feedback from the output taught by the loss differences",
    make,
    Traits(taught_by_dloss=True),
    adam_beta2=0.99,
)
