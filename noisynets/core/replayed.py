"""Passes that are made one after the other, with the same random masks in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from noisynets.core.drawing import Repeatable, arguments, draws, is_noise, is_random
from noisynets.core.modes import Mode
from noisynets.core.paired import needs_pairing


class Replays:
    """Makes passes that share random numbers, and update running statistics once, in the first.

    Random numbers that a module declares as noise are drawn anew in every pass. A system that
    certainly draws none and uses no batch statistics is left as it is.

    Args:
        system: any module.

    >>> net = nn.Dropout(0.5)
    >>> replays = Replays(net)
    >>> with replays.one():
    ...     first = net(torch.ones(8))
    >>> with replays.one():
    ...     second = net(torch.ones(8))
    >>> torch.equal(first, second)
    True
    """

    def __init__(self, system: nn.Module) -> None:
        self._system, self._passes = system, 0
        self._needed = needs_pairing(system, strangers=True)
        self._seed = int(torch.randint(2**48, ())) if self._needed else 0
        self._norms = [m for m in system.modules() if isinstance(m, _NormBase) and m.training]

    @contextmanager
    def one(self) -> Iterator[None]:
        """Make a pass inside."""
        if not self._needed:
            yield
            return
        held = [b for m in self._norms for b in m.buffers(recurse=False)] if self._passes else []
        before = [buffer.clone() for buffer in held]
        self._passes += 1
        try:
            with _Replayed(self._system, self._seed):
                yield
        finally:
            for buffer, value in zip(held, before, strict=True):
                buffer.copy_(value)


class _Replayed(Mode):
    """While it is active, random numbers that are not declared come from one seed."""

    def __init__(self, system: nn.Module, seed: int) -> None:
        super().__init__()
        self._known = set(system.modules())
        self._repeatable = Repeatable(seed)

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation."""
        if is_random(func):
            given = arguments(func, args, kwargs)
            if draws(given) and not is_noise(given, self._known, injects=True):
                return self._repeatable(func, args, kwargs)
        return func(*args, **kwargs)
