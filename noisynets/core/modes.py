"""Modes: objects that see every operation of PyTorch while they are active."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _pop_mode,
    _push_mode,
)
from torch.utils.hooks import RemovableHandle


class Mode(TorchDispatchMode):
    """While it is active, `carry_out` is called in place of every operation.

    >>> import torch
    >>> class Names(Mode):
    ...     def carry_out(self, func, args, kwargs):
    ...         print(func)
    ...         return func(*args, **kwargs)
    >>> with Names():
    ...     _ = torch.zeros(1)
    aten.zeros.default
    """

    @abstractmethod
    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what an operation returns; the mode is inactive meanwhile."""

    def hooks(self) -> list[RemovableHandle]:
        """Register hooks that the mode needs; the caller removes them."""
        return []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not import torch's compiler, which takes seconds, to keep it out of this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out one operation."""
        return self.carry_out(func, args, kwargs or {})


class Pause:
    """Makes a mode inactive between two points of a pass, where it is the last that was entered.

    It refers to the mode only in between: a mode that has a `Pause` of its own is freed, with all
    that it holds, as soon as nothing else refers to it.
    """

    def __init__(self) -> None:
        self._mode: Mode | None = None
        self._by: object = None

    def begin(self, mode: Mode, by: object) -> None:
        """Make a mode inactive until `end` is called with the same `by`."""
        if self._mode is None and _get_current_dispatch_mode() is mode:
            _pop_mode()
            self._mode, self._by = mode, by

    def end(self, by: object) -> None:
        """Make the mode active again."""
        if self._mode is not None and self._by is by:
            self.close()

    def close(self) -> None:
        """Make the mode active again, whoever made it inactive."""
        if self._mode is not None:
            _push_mode(self._mode)
            self._mode = self._by = None
