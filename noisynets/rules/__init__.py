"""Rules: pure functions from reports and loss differences to a credit for every node.

A rule never learns where a report came from. To add one: a file here, its `Rule` in `RULES`,
and an entry in the tests' shared list of cases.
"""

from noisynets.rules.activity import ANP
from noisynets.rules.iterative import INP
from noisynets.rules.node import NP
from noisynets.rules.rule import SCALINGS, Rule

RULES: dict[str, Rule] = {rule.name: rule for rule in (NP, INP, ANP)}

__all__ = ["ANP", "INP", "NP", "RULES", "SCALINGS", "Rule"]
