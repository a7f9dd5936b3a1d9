"""What the geometry of a layer consists of; the other files register it by layer type."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor, nn

from noisynets.core.outer import full_name


@singledispatch
def shown(
    layer: nn.Module, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Return single products to learn from.

    Args:
        layer: gives the geometry.
        inputs: differences, (N, *in).
        outputs: what the layer made of them, (N, *out).
        rows: number of products, at most.
        update: its number; other products are chosen in every update.

    Returns:
        Inputs (rows, n_in) and outputs (rows, n_out) of products; with groups, (groups, rows, n).

    Raises:
        NotImplementedError: for a layer type without a registered geometry.
    """
    raise NotImplementedError(f"no mirror is known for {type(layer).__name__}")


@singledispatch
def adjoint(layer: nn.Module, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    """Mᵀ credit for the geometry of `layer`: (B, *out) → `shape` (B, *in)."""
    raise NotImplementedError


@singledispatch
def forward(layer: nn.Module, m: Tensor, x: Tensor) -> Tensor:
    """M x for the geometry of `layer`: (N, *in) → (N, *out)."""
    raise NotImplementedError


@singledispatch
def as_map(layer: nn.Module, weight: Tensor) -> Tensor:
    """Return M of a layer with given weights, of the shape of its own."""
    raise NotImplementedError


BY_NAME: dict[str, Callable[[type], None]] = {}
"""What registers layers of other packages, by the full name of the class, when they are met."""


def has_product(layer: nn.Module) -> bool:
    """Return True if the geometry of a layer's linear map is known.

    >>> has_product(nn.Linear(2, 1)), has_product(nn.LayerNorm(2))
    (True, False)
    """
    kind = type(layer)
    if kind not in shown.registry and full_name(kind) in BY_NAME:
        BY_NAME[full_name(kind)](kind)
    return shown.dispatch(kind) is not shown.dispatch(object)


def spread(n: int, rows: int, update: int, device: torch.device) -> Tensor:
    """`rows` indices below n, spread evenly, and others at every update."""
    golden = (5**0.5 - 1) / 2
    steps = torch.arange(rows, dtype=torch.float64, device=device) + update * rows
    return ((steps * golden).frac() * n).long().clamp_max(n - 1)
