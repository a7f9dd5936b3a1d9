"""A rule of the paper's kind: the loss difference times the signs of the activity differences."""

from noisynets import Needs, Rule, RuleEntry, Traits, register
from noisynets.rules.scaling import mean_over_passes


class Signs(Rule):
    def needs(self, system):
        return Needs()

    def __call__(self, record):
        for call in record.calls:
            yield mean_over_passes(record.dloss[call.own], call.delta.sign())


def make(seed=0):
    return Signs()


def plug_in():
    register("rule", RuleEntry("toy-rule", "signs of activity differences", make, Traits()))
