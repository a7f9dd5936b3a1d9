"""Which tensor of a traced pass holds the value of which expression."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, UntypedStorage
from torch.multiprocessing.reductions import StorageWeakRef

from noisynets.core.graph.expressions import Activity, Expression, Unit
from noisynets.core.graph.kept import Kept
from noisynets.core.graph.places import Place, place_inside


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
                if given and part is given[0]:  # as in a square
                    what.append(Tensor)
                else:
                    inside, holds = self._held.get(part.untyped_storage()._cdata), None
                    if inside is not None:
                        holds = inside.get(place_inside(part))
                        live = live or holds is not None
                    what += (holds, part.shape, part.dtype)
                    if len(given) > 1:
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

    def views(self, tensor: Tensor) -> dict[Place, Held]:
        """Return what the views of a tensor's storage hold; it may be changed."""
        return self._held.get(tensor.untyped_storage()._cdata, {})

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
