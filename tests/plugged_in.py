"""A pytest plug-in with a rule from outside the package, and its plain loops."""

from collections.abc import Iterator
from functools import partial

import reference
from torch import Tensor, nn

from noisynets import RULES, Needs, Record, Rule, RuleEntry, Traits


class Toy(Rule):
    """credit_l = δL δa_l √N/‖δa‖², the mean over K."""

    def needs(self, system: nn.Module) -> Needs:
        return Needs()

    def __call__(self, record: Record) -> Iterator[Tensor]:
        delta = [call.delta for call in record.calls]
        size = sum(d[0, 0].numel() for d in delta)
        square = sum(d.flatten(2).square().sum(2) for d in delta)
        factor = record.dloss * size**0.5 / square
        for d in delta:
            yield (factor.view(*factor.shape, *[1] * (d.dim() - 2)) * d).mean(0)


def make(seed: int = 0) -> Toy:
    return Toy()


reference.toy_rule = partial(reference.anp_rule, scaling="root")
RULES.register(RuleEntry("toy", "a rule from outside the package", make, Traits()))
