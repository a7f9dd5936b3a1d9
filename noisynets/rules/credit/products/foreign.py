"""The geometry of layers of other packages, known by the name of their class."""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.core.outer import TRANSPOSED
from noisynets.rules.credit.products.geometry import (
    BY_NAME,
    adjoint,
    as_map,
    forward,
    shown,
)


def _register(kind: type) -> None:
    """Register a linear layer that holds its weight as (in, out)."""
    shown.register(kind, shown.dispatch(nn.Linear))
    adjoint.register(kind, adjoint.dispatch(nn.Linear))
    forward.register(kind, forward.dispatch(nn.Linear))

    def transposed(layer: nn.Module, weight: Tensor) -> Tensor:
        return weight.T

    as_map.register(kind, transposed)


BY_NAME.update({name: _register for name in TRANSPOSED})
