"""Rules: each states its needs, and turns the record of a batch into one credit per call.

The room may import the core alone. To add a rule, write a file with a `Rule` and its `ENTRY`, and
add the entry to `RULES` here; or call `RULES.register(entry)` from a package of your own. Every
battery of tests, the command line and the benchmarks then use it.
"""

from noisynets.core.registry import Registry
from noisynets.rules import (
    anp,
    dfa,
    fa,
    frozen,
    innovation,
    inp,
    kalman,
    kolen_pollack,
    learned,
    mirrored,
    np,
    share,
)
from noisynets.rules.anp import ANP
from noisynets.rules.corrected import Corrected
from noisynets.rules.in_time import InTime
from noisynets.rules.inp import INP
from noisynets.rules.np import NP
from noisynets.rules.over_trial import OverTrial
from noisynets.rules.rule import Assigned, Credit, Rule, RuleEntry, StepCredit, Traits
from noisynets.rules.scaling import SCALINGS

RULES: Registry[RuleEntry] = Registry(
    "rule",
    (
        np.ENTRY,
        inp.ENTRY,
        anp.ENTRY,
        mirrored.ENTRY,
        kolen_pollack.ENTRY,
        kalman.ENTRY,
        learned.ENTRY,
        innovation.ENTRY,
        share.ENTRY,
        dfa.ENTRY,
        fa.ENTRY,
        frozen.ENTRY,
    ),
)
"""All rules by name."""

__all__ = [
    "ANP",
    "INP",
    "NP",
    "RULES",
    "SCALINGS",
    "Assigned",
    "Corrected",
    "Credit",
    "InTime",
    "OverTrial",
    "Rule",
    "RuleEntry",
    "StepCredit",
    "Traits",
]
