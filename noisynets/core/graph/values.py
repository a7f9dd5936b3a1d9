"""Which tensor of a traced pass holds the value of which expression."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef

from noisynets.core.graph.applied import Adjoint, Overwritten, Region, Seen
from noisynets.core.graph.expressions import Activity, Digital, Expression, Unit
from noisynets.core.graph.kept import Kept
from noisynets.core.graph.places import Place, place, place_inside


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """What a tensor holds.

    Attributes:
        expression: whose value it is.
        key: of the value.
        row_dim: dimension along which the rows of all passes lie; None: unknown, or none.
        parametric: it is made of parameters alone.
    """

    expression: Expression
    key: int
    row_dim: int | None = 0
    parametric: bool = False


class Values:
    """The expressions of all tensors made in a pass, and the values that credit needs.

    A tensor is identified by its place in memory, so that views of equal shape count as one. Weak
    references keep the address of a storage from being used again, and not its numbers.

    Args:
        key: the first of the keys that are given to new values.

    Attributes:
        kept: the values that credit needs.
        key: the first unused key.
        used: tensors whose values were stored for the present operation.
    """

    def __init__(self, key: int = 0) -> None:
        self.kept = Kept()
        self.key = key
        self.used: list[Tensor] = []
        self._held: dict[int, dict[Place, Held]] = {}  # by storage
        self._known: list[StorageWeakRef] = []

    def held(self, tensor: Tensor) -> Held | None:
        """Return what a tensor holds; None if no activity and no parameter went into it."""
        inside = self._held.get(tensor.untyped_storage()._cdata)
        return None if inside is None else inside.get(place_inside(tensor))

    def read(self, parts: Iterable[Any], given: list[Tensor], what: list[Any]) -> bool:
        """Note of arguments all that expressions depend on, but for the values of constants.

        Args:
            parts: the arguments.
            given: receives their tensors.
            what: receives what each tensor holds, its dtype and shape, and any other argument.

        Returns:
            True if a tensor holds anything.
        """
        live = False
        for part in parts:
            if isinstance(part, Tensor):
                inside, holds = self._held.get(part.untyped_storage()._cdata), None
                if inside is not None:
                    holds = inside.get(place_inside(part))
                    live = live or holds is not None
                what += (holds, part.shape, part.dtype)
                if given:
                    what.append([t is part for t in given])
                given.append(part)
            elif isinstance(part, list | tuple):
                what.append(len(part))
                live = self.read(part, given, what) or live
            else:
                what.append(part)
        return live

    def expression(self, tensor: Tensor) -> Expression | None:
        """Return the expression whose value a tensor holds; None if there is none."""
        held = self.held(tensor)
        return None if held is None else held.expression

    def of(self, expression: Expression, row_dim: int | None = 0, parametric: bool = False) -> Held:
        """Return an expression with the key of its value."""
        key = expression.after if isinstance(expression, Unit) else self.new_key()
        return Held(expression, key, row_dim, parametric)

    def set_(self, tensor: Tensor, held: Held | None) -> None:
        """State what a tensor holds from now on."""
        storage = tensor.untyped_storage()
        inside = self._held.get(storage._cdata)
        if held is None:
            if inside is not None:
                inside.pop(place_inside(tensor), None)
            return
        if inside is None:
            inside = self._new_storage(storage)
        inside[place_inside(tensor)] = held
        if isinstance(held.expression, Unit):
            self.kept.store(held.key, tensor)

    def claim(self, tensor: Tensor, held: Held | None) -> bool:
        """State what a tensor holds, unless something is held in its place; return True if done."""
        storage, place = tensor.untyped_storage(), place_inside(tensor)
        inside = self._held.get(storage._cdata)
        if inside is None:
            if held is None:
                return True
            inside = self._new_storage(storage)
        if place in inside:
            return False
        if held is not None:
            inside[place] = held
            if isinstance(held.expression, Unit):
                self.kept.store(held.key, tensor)
        return True

    def _new_storage(self, storage: UntypedStorage) -> dict[Place, Held]:
        self._known.append(StorageWeakRef(storage))
        inside = self._held[storage._cdata] = {}
        return inside

    def new_key(self) -> int:
        """Return an unused key for a value."""
        self.key += 1
        return self.key - 1

    def store(self, tensor: Tensor) -> int:
        """Store a value as it was before the present operation, and return its key."""
        self.used.append(tensor)
        held = self.held(tensor)
        assert held is not None, "only what holds an expression is stored"
        if held.key not in self.kept.stored:
            self.kept.store(held.key, self.kept.before(tensor))
        return held.key

    def store_base(self, whole: Expression, live: list[tuple[Tensor, Expression]]) -> int | None:
        """Return the key of the value of `whole`, the base of `live`; None: not available."""
        if isinstance(whole, Activity):  # it is in the record
            return -1
        for tensor, expression in live:
            if isinstance(expression, Unit):
                return expression.before
            if expression is whole:
                return self.store(tensor)
        return None

    def _apply(self, adjoint: Adjoint) -> int:
        key = self.new_key()
        self.kept.applied[key] = adjoint
        return key

    def alone(self, tensor: Tensor) -> bool:
        """Return True if no other view of a tensor's numbers is known to hold anything."""
        base = tensor if tensor._base is None else tensor._base
        inside = self._held.get(tensor.untyped_storage()._cdata, {})
        return place(base) == place(tensor) and inside.keys() <= {place_inside(tensor)}

    def overwrite(self, tensor: Tensor, held: Held | None) -> None:
        """State what a tensor holds that was changed in place, and what its other views hold."""
        base = tensor if tensor._base is None else tensor._base
        here, whole_place = place_inside(tensor), place_inside(base)
        inside = self._held.get(tensor.untyped_storage()._cdata, {})
        views = [other for other in inside if other not in (here, whole_place)]
        views = [other for other in views if _overlap(tensor, other)]
        known = self.held(base)
        self.set_(tensor, held)
        if whole_place != here and (known is not None or held is not None):
            self._write_into(base, known, tensor, held)
        whole = self.expression(base)
        for other in views:
            offset, shape, strides = other
            old = inside.pop(other)
            if whole is not None:
                seen = self._apply(Seen(_region(shape, strides, offset, base)))
                made = Digital((whole,), "a change in place", seen)
                inside[other] = self.of(made, old.row_dim, old.parametric)

    def _write_into(
        self, base: Tensor, known: Held | None, view: Tensor, held: Held | None
    ) -> None:
        """State what a tensor holds of which a view was overwritten."""
        region = _region(view.shape, view.stride(), int(view.storage_offset()), base)
        made = self._apply(Overwritten(region, known is not None, held is not None))
        of = tuple(part.expression for part in (known, held) if part is not None)
        row_dim = None if held is None else held.row_dim
        if known is None and row_dim is not None:
            line = view.shape[row_dim], view.stride(row_dim)
            lines = list(zip(base.shape, base.stride(), strict=True))
            row_dim = lines.index(line) if line in lines else None
        row_dim = row_dim if known is None else known.row_dim
        self.set_(base, self.of(Digital(of, "a change in place", made), row_dim))


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
