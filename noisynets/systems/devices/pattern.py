"""Fixed patterns of a chip, and buffers whose shape is set by the first call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import generator


class LazyBuffers(nn.Module):
    """A module with buffers that get their shape in the first call; saved and loaded in any state.

    Attributes:
        buffer_names: names of these buffers; each is None before the first call.
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
    """One fixed random number per device of a chip: device-to-device variation.

    The numbers are drawn on the CPU, so that a seed gives the same chip on every machine. Equal
    seeds give equal patterns of one purpose: every layer of a chip needs its own seed, as assigned
    by `Chip`.

    Args:
        seed: of the chip; None: drawn from PyTorch's global generator.
        purpose: what differs between devices; patterns of different purposes are independent.
        uniform: draw from U(0, 1) instead of N(0, 1).

    >>> made = Pattern(seed=7)
    >>> bool((made(torch.zeros(3)) == Pattern(seed=7)(torch.zeros(3))).all())
    True
    """

    buffer_names = ("value",)
    value: Tensor | None
    seed: Tensor

    def __init__(
        self, seed: int | None = None, purpose: str = "fixed pattern", *, uniform: bool = False
    ) -> None:
        super().__init__()
        seed = int(torch.randint(2**48, ())) if seed is None else seed
        self.register_buffer("seed", torch.tensor(seed))
        self.purpose, self.uniform = purpose, uniform

    def forward(self, like: Tensor) -> Tensor:
        """Return the same numbers in every call, with the shape, dtype and device of `like`.

        Raises:
            InputError: for another shape than in the first call.
        """
        if self.value is None:
            drawn_by = generator(int(self.seed), self.purpose)
            draw = torch.rand if self.uniform else torch.randn
            self.value = draw(like.shape, generator=drawn_by).to(like)
        if self.value.shape != like.shape:
            raise InputError(
                f"a device made for shape {tuple(self.value.shape)} is used for shape "
                f"{tuple(like.shape)}: give each layer its own"
            )
        if self.value.device != like.device or self.value.dtype != like.dtype:
            self.value = self.value.to(like)
        return self.value
