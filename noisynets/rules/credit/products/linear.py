"""The geometry of `nn.Linear`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.rules.credit.products.geometry import adjoint, as_map, forward, shown, spread


@shown.register
def _shown(
    layer: nn.Linear, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    x, a = inputs.flatten(0, -2), outputs.flatten(0, -2)
    if inputs.dim() == 2:
        return x[:rows], a[:rows]
    index = spread(len(x), rows, update, x.device)
    return x[index], a[index]


@adjoint.register
def _adjoint(layer: nn.Linear, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    return credit @ m


@forward.register
def _forward(layer: nn.Linear, m: Tensor, x: Tensor) -> Tensor:
    return x @ m.T


@as_map.register
def _as_map(layer: nn.Linear, weight: Tensor) -> Tensor:
    return weight
