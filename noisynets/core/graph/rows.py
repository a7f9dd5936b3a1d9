"""Which dimension of a tensor holds the rows of the batch, as operations move it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Size, Tensor

SAME_ORDER = (
    *("view", "_unsafe_view", "reshape", "_reshape_copy", "flatten", "unflatten"),
    *("squeeze", "unsqueeze"),
)
"""Operations that keep the order of all numbers."""


def row_dim(
    name: str,
    args: Sequence[Any],
    live: Sequence[tuple[Tensor, int | None]],
    result: Tensor,
    rows: int,
) -> int | None:
    """Return the dimension of a result along which its rows lie, pass after pass.

    Rows may be folded into a dimension together with others that are behind them, as heads are.

    Args:
        name: of the operation, as in `torch.ops.aten`.
        args: of the operation.
        live: tensors among them that were computed from activities, with their own dimensions.
        result: of the operation.
        rows: of all passes.

    Returns:
        The dimension; None if it is not known, or if there is none.

    >>> import torch
    >>> x = torch.zeros(6, 4, 2)  # six rows
    >>> row_dim("transpose", (x, 0, 1), [(x, 0)], x.transpose(0, 1), rows=6)
    1
    >>> row_dim("view", (x,), [(x, 0)], x.view(24, 2), rows=6)
    0
    """
    known = [(t, d) for t, d in live if d is not None]
    if not known:
        return None
    tensor, dim = known[0]
    found = _moved(name, args, tensor, dim, result.shape, rows)
    if found is None and all(d == 0 for _, d in known):
        found = 0
    if found is None or found >= result.dim() or not result.shape[found]:
        return None
    return None if result.shape[found] % rows else found


def _moved(
    name: str, args: Sequence[Any], tensor: Tensor, dim: int, shape: Size, rows: int
) -> int | None:
    """Return where an operation on one tensor moves a dimension."""
    n = tensor.dim()
    if name in SAME_ORDER:
        before = prod(tensor.shape[:dim])
        ahead = [d for d in range(len(shape)) if prod(shape[:d]) == before]
        return next((d for d in ahead if shape[d] and not shape[d] % rows), None)
    if name == "permute":
        return [d % n for d in args[1]].index(dim)
    if name in ("transpose", "t"):
        one, two = (args[1] % n, args[2] % n) if name == "transpose" else (0, n - 1)
        return {one: two, two: one}.get(dim, dim)
    if name in ("select", "unbind"):
        at = (args[1] if len(args) > 1 else 0) % n
        return None if at == dim else dim - (at < dim)
    if name == "stack":
        at = (args[1] if len(args) > 1 else 0) % len(shape)
        return dim + (at <= dim)
    if name in ("expand", "mul", "add", "sub", "div") and len(shape) > n:
        return len(shape) - n + dim
    if len(shape) == n and shape[dim] == tensor.shape[dim]:
        return dim
    return dim if dim == 0 and len(shape) and shape[0] == tensor.shape[0] else None
