"""Registries: parts by name, to which a part from outside the package is added by one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from noisynets.core.errors import InputError, unknown

T = TypeVar("T")


class Registry(dict[str, T]):
    """Parts of one kind, by name.

    Args:
        kind: of part, as error messages name it.
        entries: the first parts: by name, or with names of their own.

    >>> ages = Registry("age", {"old": 99})
    >>> ages.register(3, name="young")
    3
    >>> ages["yuong"]
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: unknown age 'yuong': did you mean 'young'? Known: old, young
    """

    def __init__(self, kind: str, entries: Mapping[str, T] | Iterable[T] = ()) -> None:
        super().__init__()
        self.kind = kind
        if isinstance(entries, Mapping):
            for name, entry in entries.items():
                self.register(entry, name=name)
        else:
            for entry in entries:
                self.register(entry)

    def register(self, entry: T, *, name: str | None = None) -> T:
        """Add a part, and return it.

        Args:
            entry: the part.
            name: None: the entry's `name`, or its `__name__` (of a function or class).

        Raises:
            InputError: if the name is taken, or there is none.
        """
        own: Any = getattr(entry, "name", getattr(entry, "__name__", None))
        name = own if name is None else name
        if not isinstance(name, str):
            raise InputError(f"{self.kind} {entry!r}: give it a name to register it")
        if name in self:
            raise InputError(f"{self.kind} {name!r} is already registered: choose another name")
        self[name] = entry
        return entry

    def __missing__(self, name: str) -> T:
        raise unknown(self.kind, name, self)
