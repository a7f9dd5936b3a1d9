"""Additive Gaussian noise at the nodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from noisynets.errors import InputError
from noisynets.noise import Stream


class AdditiveGaussian(nn.Module):
    """a + N(0, σ²), drawn anew for every element and every call, in training and evaluation.

    The stream of random numbers is shut inside: it can be saved and restored with the state
    of the module, but there is no attribute to read or seed it by, or to switch it off.

    Args:
        sigma: standard deviation, in units of the activity.
        seed: of the stream; None draws one from PyTorch's global stream, so that every node has
            noise of its own. Equal seeds give equal noise, and a rule could not tell the nodes
            apart.

    >>> AdditiveGaussian(0.1)(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        if not (math.isfinite(sigma) and sigma >= 0):
            raise InputError(f"the system's own noise {sigma:g} must be finite and not negative")
        self.__sigma = sigma
        self.__stream = Stream(int(torch.randint(2**48, ())) if seed is None else seed)

    def forward(self, a: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        z = torch.empty_like(a).normal_(0, self.__sigma, generator=self.__stream.on(a.device))
        return a + z

    def get_extra_state(self) -> Tensor:
        """Return the state of the stream, for `state_dict()`."""
        return self.__stream.state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the stream, for `load_state_dict()`."""
        self.__stream.restore(state)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.__sigma:g}"
