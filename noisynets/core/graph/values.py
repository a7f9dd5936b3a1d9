"""Which tensor of a traced pass holds the value of which expression."""

from __future__ import annotations

import itertools

from torch import Tensor

from noisynets.core.graph.expressions import Activity, Expression, Opaque, Unit

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


class Values:
    """The expressions of all tensors made in a pass, and copies of the values that gates need.

    A tensor is identified by its place in memory, so that views of equal shape count as one. All
    tensors with an expression are kept alive until the pass ends, so that no other tensor takes
    their place.

    Attributes:
        stored: copies of values, (rows, ...), by key.
    """

    def __init__(self) -> None:
        self.stored: dict[int, Tensor] = {}
        self._keys = itertools.count()
        self._expressions: dict[Key, Expression] = {}
        self._key_of: dict[Key, int] = {}
        self._before: dict[Key, Tensor] = {}
        self._alive: list[Tensor] = []

    def expression(self, tensor: Tensor) -> Expression | None:
        """Return the expression whose value a tensor holds; None if no activity went into it."""
        return self._expressions.get(place(tensor))

    def set_(self, tensor: Tensor, expression: Expression | None) -> None:
        """State that a tensor now holds the value of an expression."""
        if expression is None:
            self._expressions.pop(place(tensor), None)
            return
        self._alive.append(tensor)
        self._expressions[place(tensor)] = expression
        key = expression.after if isinstance(expression, Unit) else next(self._keys)
        self._key_of[place(tensor)] = key
        if isinstance(expression, Unit):
            self.stored[key] = tensor.detach().clone()

    def new_key(self) -> int:
        """Return an unused key for a value."""
        return next(self._keys)

    def store(self, tensor: Tensor) -> int:
        """Copy a value as it was before the present operation, and return its key."""
        key = self._key_of[place(tensor)]
        if key not in self.stored:
            self.stored[key] = self._before.get(place(tensor), tensor).detach().clone()
        return key

    def store_base(self, whole: Expression, live: list[tuple[Tensor, Expression]]) -> int | None:
        """Return the key of the value of `whole`, the base of `live`; None: not available."""
        for tensor, expression in live:
            if isinstance(expression, Unit):
                return expression.before
            if expression is whole:
                return self.store(tensor)
        return -1 if isinstance(whole, Activity) else None  # activities are in the record

    def begin(self, tensors: list[Tensor]) -> None:
        """Keep the values of tensors that the next operation may change in place."""
        self._before = {
            place(t): t.detach().clone() for t in tensors if self.expression(t) is not None
        }

    def changed_in_place(self, tensor: Tensor) -> None:
        """Make other views of a changed tensor opaque."""
        storage, key = place(tensor)[0], place(tensor)
        for other in [k for k in self._expressions if k[0] == storage and k != key]:
            self._expressions[other] = Opaque((self._expressions[other],), "a change in place")


def place(tensor: Tensor) -> Key:
    """Return the place of a tensor in memory: storage, offset, shape and strides."""
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
    )
