"""A rule of the paper's kind: the loss difference times the signs of the activity differences."""

from noisynets import register
from noisynets.estimators.methods import node_method
from noisynets.rules import Rule
from noisynets.rules.rule import mean_over_passes


def credit(reports, dloss, scaling):
    return (mean_over_passes(dloss[r.own], r.delta.sign()) for r in reports)


def plug_in():
    rule = Rule("toy-rule", "signs of the activity differences", credit, scaled=False)
    register(
        "rule", node_method(rule.name, rule.summary, rule, lr=3e-3, sigma=1e-2, from_dloss=True)
    )
