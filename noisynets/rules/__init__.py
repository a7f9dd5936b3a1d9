"""Rules: pure functions from reports and loss differences to a credit for every node.

A rule never learns where a report came from. To add one: a file here and its `Rule` in `RULES`,
from which the tests take their cases; an entry in `noisynets.estimators.methods` puts it on the
command line.
"""

from noisynets.rules.anp import ANP
from noisynets.rules.inp import INP
from noisynets.rules.np import NP
from noisynets.rules.rule import SCALINGS, Rule

RULES: dict[str, Rule] = {rule.name: rule for rule in (NP, INP, ANP)}

__all__ = ["ANP", "INP", "NP", "RULES", "SCALINGS", "Rule"]
