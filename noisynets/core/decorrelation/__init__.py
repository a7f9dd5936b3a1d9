"""Decorrelation: each layer sees R x instead of x, and R learns by itself what makes it so.

`Decorrelated(layer)` computes layer(R (x − m)). R starts at the identity and has its own local
update and its own rate; the estimators apply it after each pass, from the reference pass alone,
much as batch normalisation keeps its running statistics. No rule knows about it: what enters
the layer inside is decorrelated already.
"""

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
    "learn_",
    "unstable",
]
