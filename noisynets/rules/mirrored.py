"""Mirrored credit: each node's map is learnt from its measured differences."""

from __future__ import annotations

from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.mirror import mirror_of
from noisynets.rules.rule import RuleEntry, Traits


def make(seed: int = 0) -> LayerwiseFeedback:
    """Return the rule; it draws nothing, and reads no weight.

    >>> make().due
    True
    """
    return LayerwiseFeedback(mirror_of)


ENTRY = RuleEntry(
    "mirrored",
    "mirrored credit: each layer's map learnt from pairs, units' gains measured (best)",
    make,
    Traits(mirrors=True),
    adam_beta2=0.99,
)
