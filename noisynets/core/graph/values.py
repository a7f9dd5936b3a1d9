"""Which tensor of a traced pass holds the value of which expression."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.graph.applied import Adjoint, Applied, Overwritten, Region, Seen
from noisynets.core.graph.expressions import Activity, Digital, Expression, Unit
from noisynets.core.trees import leaves

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
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

    A tensor is identified by its place in memory, so that views of equal shape count as one. All
    tensors with an expression are kept alive until the pass ends, so that no other tensor takes
    their place.

    Attributes:
        stored: copies of values, (rows, ...), by key.
        applied: digital operations with the values on which they were carried out, by key. These
            are no copies, until an operation changes them in place.
    """

    def __init__(self) -> None:
        self.stored: dict[int, Tensor] = {}
        self.applied: dict[int, Adjoint] = {}
        self._keys = itertools.count()
        self._held: dict[Key, Held] = {}
        self._before: dict[Key, Tensor] = {}
        self._alive: list[Tensor] = []
        self._users: dict[int, list[Applied]] = {}  # by storage

    def held(self, tensor: Tensor) -> Held | None:
        """Return what a tensor holds; None if no activity and no parameter went into it."""
        return self._held.get(place(tensor))

    def expression(self, tensor: Tensor) -> Expression | None:
        """Return the expression whose value a tensor holds; None if there is none."""
        held = self.held(tensor)
        return None if held is None else held.expression

    def set_(
        self,
        tensor: Tensor,
        expression: Expression | None,
        row_dim: int | None = 0,
        parametric: bool = False,
    ) -> None:
        """State what a tensor holds from now on."""
        if expression is None:
            self._held.pop(place(tensor), None)
            return
        self._alive.append(tensor)
        key = expression.after if isinstance(expression, Unit) else next(self._keys)
        self._held[place(tensor)] = Held(expression, key, row_dim, parametric)
        if isinstance(expression, Unit):
            self.stored[key] = tensor.detach().clone()

    def new_key(self) -> int:
        """Return an unused key for a value."""
        return next(self._keys)

    def store(self, tensor: Tensor) -> int:
        """Copy a value as it was before the present operation, and return its key."""
        key = self._held[place(tensor)].key
        if key not in self.stored:
            self.stored[key] = self.before(tensor).detach().clone()
        return key

    def store_base(self, whole: Expression, live: list[tuple[Tensor, Expression]]) -> int | None:
        """Return the key of the value of `whole`, the base of `live`; None: not available."""
        for tensor, expression in live:
            if isinstance(expression, Unit):
                return expression.before
            if expression is whole:
                return self.store(tensor)
        return -1 if isinstance(whole, Activity) else None  # activities are in the record

    def apply(self, applied: Adjoint) -> int:
        """Keep the adjoint of a digital operation, and return its key."""
        key = next(self._keys)
        self.applied[key] = applied
        return key

    def watch(self, applied: Applied) -> None:
        """Let an operation keep its values when they are about to be changed in place."""
        for tensor in leaves((applied.args, applied.kwargs)):
            self._users.setdefault(place(tensor)[0], []).append(applied)

    def before(self, tensor: Tensor) -> Tensor:
        """Return the values of a tensor as they were before the present operation."""
        return self._before.get(place(tensor), tensor)

    def begin(self, tensors: list[Tensor]) -> None:
        """Keep the values of tensors that the next operation may change in place."""
        self._before = {}
        for tensor in tensors:
            storage = place(tensor)[0]
            for applied in self._users.pop(storage, ()):
                applied.keep_before_change(storage)
        if any(self.held(t) for t in tensors):
            self._before = {place(t): t.detach().clone() for t in tensors}

    def overwrite(
        self, tensor: Tensor, expression: Expression | None, row_dim: int | None, parametric: bool
    ) -> None:
        """State what a tensor holds that was changed in place, and what its other views hold."""
        base = tensor if tensor._base is None else tensor._base
        key, storage = place(tensor), place(tensor)[0]
        views = [
            other
            for other in self._held
            if other[0] == storage and other not in (key, place(base)) and _overlap(tensor, other)
        ]
        known = self.held(base)
        self.set_(tensor, expression, row_dim, parametric)
        if place(base) != key and (known is not None or expression is not None):
            self._write_into(base, known, tensor, expression, row_dim)
        whole = self.expression(base)
        for other in views:
            _, offset, shape, strides = other
            old = self._held.pop(other)
            if whole is not None:
                seen = Seen(_region(shape, strides, offset, base))
                made = Digital((whole,), "a change in place", self.apply(seen))
                self._held[other] = Held(made, next(self._keys), old.row_dim, old.parametric)

    def _write_into(
        self,
        base: Tensor,
        known: Held | None,
        view: Tensor,
        expression: Expression | None,
        row_dim: int | None,
    ) -> None:
        """State what a tensor holds of which a view was overwritten."""
        old = None if known is None else known.expression
        region = _region(view.shape, view.stride(), int(view.storage_offset()), base)
        made = self.apply(Overwritten(region, old is not None, expression is not None))
        of = tuple(part for part in (old, expression) if part is not None)
        if known is None and row_dim is not None:
            line = view.shape[row_dim], view.stride(row_dim)
            lines = list(zip(base.shape, base.stride(), strict=True))
            row_dim = lines.index(line) if line in lines else None
        row_dim = row_dim if known is None else known.row_dim
        self.set_(base, Digital(of, "a change in place", made), row_dim)


def place(tensor: Tensor) -> Key:
    """Return the place of a tensor in memory: storage, offset, shape and strides."""
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
    )


def _region(shape: tuple[int, ...], strides: tuple[int, ...], offset: int, base: Tensor) -> Region:
    start = offset - int(base.storage_offset())
    return Region(torch.Size(shape), tuple(strides), start, base.shape, base.stride())


def _overlap(tensor: Tensor, other: Key) -> bool:
    """Return True if a tensor shares numbers with a view of the same storage."""
    _, offset, shape, strides = other
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    seen = torch.zeros(size, dtype=torch.bool)
    seen.as_strided(tensor.shape, tensor.stride(), int(tensor.storage_offset())).fill_(True)
    return bool(seen.as_strided(shape, strides, offset).any())
