"""What tensors hold once one of them, or a view of it, was changed in place."""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.core.graph.applied import Adjoint, Overwritten, Region, Seen
from noisynets.core.graph.expressions import Digital
from noisynets.core.graph.places import Place, place, place_inside
from noisynets.core.graph.values import Held, Values


def alone(tensor: Tensor, values: Values) -> bool:
    """Return True if no other view of a tensor's numbers is known to hold anything."""
    same = place(_base(tensor)) == place(tensor)
    return same and values.views(tensor).keys() <= {place_inside(tensor)}


def overwrite(tensor: Tensor, held: Held | None, values: Values) -> None:
    """State what a tensor holds that was changed in place, and what its other views hold."""
    base = _base(tensor)
    here, whole_place = place_inside(tensor), place_inside(base)
    inside = values.views(tensor)
    views = [other for other in inside if other not in (here, whole_place)]
    views = [other for other in views if _overlap(tensor, other)]
    known = values.held(base)
    values.set_(tensor, held)
    if whole_place != here and (known is not None or held is not None):
        _write_into(base, known, tensor, held, values)
    whole = values.expression(base)
    for other in views:
        offset, shape, strides = other
        old = inside.pop(other)
        if whole is not None:
            seen = _apply(Seen(_region(shape, strides, offset, base)), values)
            made = Digital((whole,), "a change in place", seen)
            inside[other] = values.of(made, old.row_dim, old.parametric)


def _write_into(
    base: Tensor, known: Held | None, view: Tensor, held: Held | None, values: Values
) -> None:
    """State what a tensor holds of which a view was overwritten."""
    region = _region(view.shape, view.stride(), int(view.storage_offset()), base)
    made = _apply(Overwritten(region, known is not None, held is not None), values)
    of = tuple(part.expression for part in (known, held) if part is not None)
    row_dim = None if held is None else held.row_dim
    if known is None and row_dim is not None:
        line = view.shape[row_dim], view.stride(row_dim)
        lines = list(zip(base.shape, base.stride(), strict=True))
        row_dim = lines.index(line) if line in lines else None
    row_dim = row_dim if known is None else known.row_dim
    values.set_(base, values.of(Digital(of, "a change in place", made), row_dim))


def _apply(adjoint: Adjoint, values: Values) -> int:
    key = values.new_key()
    values.kept.applied[key] = adjoint
    return key


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


def _region(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, base: Tensor) -> Region:
    start = offset - int(base.storage_offset())
    return Region(torch.Size(shape), tuple(strides), start, base.shape, base.stride())


def _overlap(tensor: Tensor, other: Place) -> bool:
    """Return True if a tensor shares numbers with a view of the same storage."""
    offset, shape, strides = other
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    seen = torch.zeros(size, dtype=torch.bool)
    seen.as_strided(tensor.shape, tensor.stride(), int(tensor.storage_offset())).fill_(True)
    return bool(seen.as_strided(shape, strides, offset).any())
