"""The values of a traced pass that credit needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from noisynets.core.graph.applied import Adjoint, Applied
from noisynets.core.graph.places import Key, place
from noisynets.core.trees import leaves


class Kept:
    """The values of a pass that credit needs. They are no copies, until they are overwritten.

    Attributes:
        stored: values, (rows, ...), by key.
        applied: digital operations with the values on which they were carried out, by key.
    """

    def __init__(self) -> None:
        self.stored: dict[int, Tensor] = {}
        self.applied: dict[int, Adjoint] = {}
        self._before: dict[Key, Tensor] = {}
        self._users: dict[int, list[Applied | int]] = {}  # operations and keys, by storage
        self._new_users: list[Applied | int] = []  # that are not in it yet

    def store(self, key: int, tensor: Tensor) -> None:
        """Store the value of a tensor."""
        self.stored[key] = tensor.detach() if tensor.requires_grad else tensor
        self._new_users.append(key)

    def apply(self, key: int, applied: Applied) -> None:
        """Keep a digital operation with its values."""
        self.applied[key] = applied
        self._new_users.append(applied)

    def before(self, tensor: Tensor) -> Tensor:
        """Return the values of a tensor as they were before the present operation."""
        return self._before.get(place(tensor), tensor) if self._before else tensor

    def begin(self, tensors: list[Tensor], live: bool) -> None:
        """Keep the values of tensors that the next operation may change in place.

        Args:
            tensors: all that it is given.
            live: any of them holds an expression.
        """
        self.protect(tensors)
        self._before = {place(t): t.detach().clone() for t in tensors} if live else {}

    def end(self) -> None:
        """Forget the values of before an operation."""
        self._before = {}

    def protect(self, tensors: list[Tensor]) -> None:
        """Copy what is stored of tensors that may be changed in place."""
        for user in self._new_users:
            for tensor in leaves(_given(user) if isinstance(user, Applied) else self.stored[user]):
                self._users.setdefault(tensor.untyped_storage()._cdata, []).append(user)
        self._new_users.clear()
        for storage in {t.untyped_storage()._cdata for t in tensors} & self._users.keys():
            for user in self._users.pop(storage):
                if isinstance(user, Applied):
                    user.keep_before_change(storage)
                else:
                    self.stored[user] = self.stored[user].clone()

    def protect_all(self) -> None:
        """Copy all that is stored."""
        self.protect([*self.stored.values(), *leaves([*map(_given, self.applied.values())])])


def _given(adjoint: Adjoint) -> Any:
    return (adjoint.args, adjoint.kwargs) if isinstance(adjoint, Applied) else ()
