"""White noise of activities: additive, multiplicative and shot noise."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from noisynets.core.noise import Source
from noisynets.core.trial import Stateful
from noisynets.core.types import Effect
from noisynets.systems.checks import not_negative, positive


class AdditiveGaussian(Effect):
    """a + N(0, σ²), drawn independently for every element and call: read-out noise of a node.

    aihwkit's default for the output of an analog tile is 0.06 in normalised units
    (`simulator/parameters/io.py`); `Periphery` uses it.

    Args:
        sigma: σ, in units of the activity.
        seed: of the noise; None: drawn from PyTorch's global generator. See `Source`.

    Raises:
        InputError: for a σ that is negative or not finite.

    >>> import torch
    >>> AdditiveGaussian(0.1)(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.__sigma = sigma
        self.source = Source(seed, "additive noise")

    def forward(self, a: Tensor) -> Tensor:
        """Add noise: (B, *out) → (B, *out)."""
        return a + self.source.normal(a, self.__sigma)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.__sigma:g}"


class TrialGaussian(AdditiveGaussian, Stateful):
    """a + N(0, σ²) with one draw for all steps of a trial: noise slower than the network.

    >>> import torch
    >>> noise = TrialGaussian(0.1)
    >>> a = torch.zeros(2, 3)
    >>> bool((noise(a) == noise(a)).all())
    True
    """

    fresh = MappingProxyType({"_drawn": None})
    _drawn: Tensor | None

    def forward(self, a: Tensor) -> Tensor:
        """Add the noise of this trial: (B, *out) → (B, *out)."""
        if self._drawn is None or self._drawn.shape != a.shape:
            self._drawn = super().forward(torch.zeros_like(a, requires_grad=False))
        return a + self._drawn


class MultiplicativeGaussian(Effect):
    """a (1 + N(0, σ²)): noise in proportion to the activity.

    The form follows cross-sim's `generic_device.py`.

    Args:
        sigma: σ, relative to the activity.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a σ that is negative or not finite.

    >>> import torch
    >>> MultiplicativeGaussian(0.1)(torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.sigma = sigma
        self.source = Source(seed, "multiplicative noise")

    def forward(self, a: Tensor) -> Tensor:
        """Scale by 1 + noise: (B, *out) → (B, *out)."""
        return a * (1 + self.source.normal(a, self.sigma))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.sigma:g}"


class Shot(Effect):
    """sign(a) Poisson(n |a|)/n: shot noise of counted quanta, with mean a and variance |a|/n.

    Args:
        quanta: n, photons or electrons per unit of activity.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a number of quanta that is not positive and finite.

    >>> import torch
    >>> bool(((Shot(quanta=4)(torch.tensor([[-1.0, 2.0]])) * 4) % 1 == 0).all())
    True
    """

    def __init__(self, quanta: float, seed: int | None = None) -> None:
        super().__init__()
        positive(quanta=quanta)
        self.quanta = quanta
        self.source = Source(seed, "shot noise")

    def forward(self, a: Tensor) -> Tensor:
        """Draw the counts: (B, *out) → (B, *out)."""
        counts = self.source.poisson(a.detach().abs() * self.quanta)
        noise = a.detach().sign() * counts / self.quanta - a.detach()
        return a + noise

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"quanta={self.quanta:g}"
