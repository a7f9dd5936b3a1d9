"""What a device keeps: patterns of its making, and states whose shape the first call decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError

_PATTERN_STREAM = 0x0F1CED
"""Separates the stream of patterns from the streams of noise, which may have the same seed."""


class LazyBuffers(nn.Module):
    """Buffers that take their shape from the first call; saved and loaded at any time.

    Attributes:
        kept: names of the buffers.
    """

    buffer_names: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        for name in self.buffer_names:
            self.register_buffer(name, None)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self.buffer_names:
            value = state.get(prefix + name)
            old = getattr(self, name)
            saved_on = value.device if old is None and value is not None else None
            device = old.device if old is not None else saved_on
            setattr(self, name, None if value is None else torch.empty_like(value, device=device))
        super()._load_from_state_dict(state, prefix, *rest)


class Pattern(LazyBuffers):
    """One fixed random number per device, drawn when the chip is made: device-to-device spread.

    Args:
        seed: of the chip; None draws one from PyTorch's global stream. The numbers are drawn on
            the CPU, so that a seed means the same chip everywhere. Equal seeds give equal
            patterns: a chip's layers need one each, as `Chip` gives them.
        uniform: draw from U(0, 1) instead of N(0, 1).

    >>> made = Pattern(seed=7)
    >>> bool((made(torch.zeros(3)) == Pattern(seed=7)(torch.zeros(3))).all())
    True
    """

    buffer_names = ("value",)
    value: Tensor | None
    seed: Tensor

    def __init__(self, seed: int | None = None, *, uniform: bool = False) -> None:
        super().__init__()
        seed = int(torch.randint(2**48, ())) if seed is None else seed
        self.register_buffer("seed", torch.tensor(seed))
        self.uniform = uniform

    def forward(self, like: Tensor) -> Tensor:
        """Return the numbers, of the shape, dtype and device of `like`, at every call the same.

        Raises:
            InputError: for another shape than at the first call.
        """
        if self.value is None:
            sequence = np.random.SeedSequence([int(self.seed), _PATTERN_STREAM])
            state = sequence.generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
            draw = torch.rand if self.uniform else torch.randn
            self.value = draw(like.shape, generator=generator).to(like)
        if self.value.shape != like.shape:
            raise InputError(
                f"a device made for shape {tuple(self.value.shape)} is used for shape "
                f"{tuple(like.shape)}: give each layer its own"
            )
        if self.value.device != like.device or self.value.dtype != like.dtype:
            self.value = self.value.to(like)
        return self.value
