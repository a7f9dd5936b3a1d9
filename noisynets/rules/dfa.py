"""DFA, direct feedback alignment: fixed random maps from the error at the output. A control."""

from __future__ import annotations

from functools import partial

from noisynets.rules.credit.direct import DirectFeedback
from noisynets.rules.credit.direct_maps import DirectMaps, RandomMap
from noisynets.rules.rule import RuleEntry, Traits


def make(seed: int = 0) -> DirectFeedback:
    """Return the rule with the random maps of a seed."""
    return DirectFeedback(DirectMaps(partial(RandomMap, seed=seed), taught=False))


ENTRY = RuleEntry(
    "dfa",
    "direct feedback alignment: random feedback from the output (control)",
    make,
    Traits(random_feedback=True, control=True),
    adam_beta2=0.99,
)
