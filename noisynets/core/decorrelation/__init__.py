"""Decorrelation: a layer receives R x instead of x, where R is learned to decorrelate its inputs.

`Decorrelated(layer)` computes layer(R (x − m)). R starts as the identity, and has an update and a
learning rate of its own; the estimators update it after each pass, from the reference pass alone,
as batch normalisation updates its running statistics. Training rules are unaffected, because the
input of the wrapped layer is already decorrelated.
"""

from noisynets.core.decorrelation.folding import folded
from noisynets.core.decorrelation.layers import (
    Decorrelated,
    DecorrelatedConv2d,
    DecorrelatedLinear,
    decorrelated,
)
from noisynets.core.decorrelation.system import decorrelate, decorrelations, learn_, unstable
from noisynets.core.decorrelation.updates import VARIANTS

__all__ = [
    "VARIANTS",
    "Decorrelated",
    "DecorrelatedConv2d",
    "DecorrelatedLinear",
    "decorrelate",
    "decorrelated",
    "decorrelations",
    "folded",
    "learn_",
    "unstable",
]
