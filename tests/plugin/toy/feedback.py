"""A feedback rule: half of what direct feedback alignment gives."""

from noisynets import RULES, Rule, RuleEntry, Traits, register


class Half(Rule):
    uses_dloss = False

    def __init__(self, seed):
        self.inner = RULES["dfa"].make(seed)

    def needs(self, system):
        return self.inner.needs(system)

    def __call__(self, record):
        return [None if credit is None else credit / 2 for credit in self.inner(record)]

    def state(self):
        return self.inner.state()

    def restore(self, state):
        self.inner.restore(state)


def plug_in():
    register("rule", RuleEntry("toy-feedback", "half of dfa", Half, Traits(random_feedback=True)))
