"""How much of the measured differences learnt maps explain."""

from __future__ import annotations

import math

from torch import Tensor

from noisynets.core.record import NodeRecord, Record
from noisynets.rules.credit.delivery import graph_of
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.mirror import Maps

NOTHING = 0.02
"""R² of a map below which it explains nothing. Where least squares find a map at all, mirrors of
all layers reach 0.1 and more within 200 updates."""


def r2(call: NodeRecord, known: Map) -> float:
    """Return R² of δa less the injected noise, predicted by a map from δx; NaN if nothing moved."""
    assert call.shift is not None, "maps learn from differences of inputs"
    made = call.delta if call.xi is None else call.delta - call.xi
    left = made - known.predict(call.raw, call.shift)
    whole = float(made.double().square().sum())
    return 1 - float(left.double().square().sum()) / whole if whole > 0 else math.nan


def unexplained_maps(record: Record, maps: Maps) -> list[str]:
    """Return the paths of nodes through whose map credit is sent, and which explains nothing."""
    names = set()
    for made, call in zip(graph_of(record).inputs, record.calls, strict=True):
        known = None if made is None else maps.get(call.node)
        if known is not None and known.learns and call.shift is not None:
            if not (r2(call, known) >= NOTHING):
                names.add(call.node.name)
    return sorted(names)


class Explained:
    """How much of the hidden nodes' share in δL learned credit explains, over all looks.

    The correlation between r, what is left of δL without the output's share, and Σ ε·credit, is 0
    if the credit is noise.

    Args:
        least: correlation below which it explains nothing.
        errors: of how many standard errors it must be below.
    """

    def __init__(self, least: float = 0.1, errors: float = 3.0) -> None:
        self.least, self.errors = least, errors
        self._sums = [0.0, 0.0, 0.0]
        self._pairs = 0

    def add_(self, residual: Tensor, predicted: Tensor) -> None:
        """Add the pairs of a batch: r and Σ ε·credit, both (K, B)."""
        r, p = residual.double(), predicted.double()
        scale = float(r.square().mean()) or 1.0, float(p.square().mean()) or 1.0
        if not (math.isfinite(scale[0]) and math.isfinite(scale[1])):
            return
        both = ((r * p).sum(), r.square().sum(), p.square().sum())
        units = ((scale[0] * scale[1]) ** 0.5, *scale)
        self._sums = [s + float(b) / u for s, b, u in zip(self._sums, both, units, strict=True)]
        self._pairs += r.numel()

    @property
    def nothing(self) -> bool:
        """True if the correlation is certainly below the least one."""
        top, one, other = self._sums
        if not (one > 0 and other > 0):
            return False
        return top / (one * other) ** 0.5 + self.errors / self._pairs**0.5 < self.least
