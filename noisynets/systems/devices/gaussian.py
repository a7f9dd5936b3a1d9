"""White noise of the activities: additive, multiplicative, and shot noise."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor

from noisynets.core.noise import Source
from noisynets.core.types import Effect, Stateful
from noisynets.systems.checks import not_negative, positive


class AdditiveGaussian(Effect):
    """a + N(0, σ²), drawn anew for every element and every call: read-out noise of a node.

    aihwkit's default for the output of an analog tile is 0.06 of its normalised units
    (`simulator/parameters/io.py`); `Periphery` has it.

    Args:
        sigma: standard deviation, in units of the activity.
        seed: of the noise; None draws one. See `Source`.

    >>> import torch
    >>> AdditiveGaussian(0.1)(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.__sigma = sigma
        self.source = Source(seed)

    def forward(self, a: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        return a + self.source.normal(a, self.__sigma)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.__sigma:g}"


class TrialGaussian(AdditiveGaussian, Stateful):
    """The same with one draw for all steps of a trial: a disturbance slower than the network.

    >>> import torch
    >>> noise = TrialGaussian(0.1)
    >>> a = torch.zeros(2, 3)
    >>> bool((noise(a) == noise(a)).all())
    True
    """

    fresh = MappingProxyType({"_drawn": None})
    _drawn: Tensor | None

    def forward(self, a: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        if self._drawn is None or self._drawn.shape != a.shape:
            self._drawn = super().forward(torch.zeros_like(a, requires_grad=False))
        return a + self._drawn


class MultiplicativeGaussian(Effect):
    """a (1 + N(0, σ²)): noise in proportion to the signal.

    Form: cross-sim's `generic_device.py`.

    Args:
        sigma: standard deviation, as a share of the activity.
        seed: of the noise; None draws one.

    >>> import torch
    >>> MultiplicativeGaussian(0.1)(torch.zeros(1, 2))
    tensor([[0., 0.]])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.sigma = sigma
        self.source = Source(seed)

    def forward(self, a: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        return a * (1 + self.source.normal(a, self.sigma))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.sigma:g}"


class Shot(Effect):
    """sign(a) Poisson(n|a|)/n: counted quanta; the mean is a and the variance |a|/n.

    Args:
        quanta: n, photons or electrons per unit of activity.
        seed: of the noise; None draws one.

    >>> import torch
    >>> bool(((Shot(quanta=4)(torch.tensor([[-1.0, 2.0]])) * 4) % 1 == 0).all())
    True
    """

    def __init__(self, quanta: float, seed: int | None = None) -> None:
        super().__init__()
        positive(quanta=quanta)
        self.quanta = quanta
        self.source = Source(seed)

    def forward(self, a: Tensor) -> Tensor:
        """(B, *out) → (B, *out)."""
        counts = self.source.poisson(a.detach().abs() * self.quanta)
        noise = a.detach().sign() * counts / self.quanta - a.detach()
        return a + noise

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"quanta={self.quanta:g}"
