"""Modes: objects that see every operation of PyTorch while they are active."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
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
