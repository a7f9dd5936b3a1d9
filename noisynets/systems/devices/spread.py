"""Device-to-device variation: random differences between devices that are fixed per chip."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import not_negative, positive
from noisynets.systems.devices.pattern import Pattern


class WeightSpread(Effect):
    """W (1 + s z), with a fixed z ~ N(0, 1) for every weight.

    Args:
        spread: s, relative to the weight; aihwkit's usual device-to-device variation is 0.3.
        device_seed: of the chip; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a spread that is negative or not finite.

    >>> import torch
    >>> WeightSpread(0.3).weights(Weights(torch.zeros(2, 3))).mean.abs().sum()
    tensor(0.)
    """

    def __init__(self, spread: float = 0.3, device_seed: int | None = None) -> None:
        super().__init__()
        not_negative(spread=spread)
        self.spread = spread
        self.pattern = Pattern(device_seed, "spread of weights")

    def weights(self, weights: Weights) -> Weights:
        """Scale every weight by its factor, and its variance by the factor's square."""
        mean, variance = weights
        factor = 1 + self.spread * self.pattern(mean.detach())
        return Weights(mean * factor, None if variance is None else variance * factor.square())

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"spread={self.spread:g}"


class WeightBounds(Effect):
    """W clipped to the range of its device: −b (1 + s z₁) to b (1 + s z₂), fixed z ~ N(0, 1).

    The defaults are those of aihwkit's default device (`configs/devices.py`): b = 0.6, s = 0.3.

    Args:
        bound: b, in units of the weights.
        spread: s, relative to b.
        device_seed: of the chip; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a bound that is not positive, or a negative spread.

    >>> import torch
    >>> WeightBounds(0.5, spread=0).weights(Weights(torch.tensor([[-2.0, 0.1, 2.0]]))).mean
    tensor([[-0.5000,  0.1000,  0.5000]])
    """

    def __init__(
        self, bound: float = 0.6, spread: float = 0.3, device_seed: int | None = None
    ) -> None:
        super().__init__()
        positive(bound=bound)
        not_negative(spread=spread)
        self.bound, self.spread = bound, spread
        self.pattern = Pattern(device_seed, "spread of bounds")

    def weights(self, weights: Weights) -> Weights:
        """Clip the mean; the variance stays, also for weights at a bound."""
        pair = weights.mean.detach().expand(2, *weights.mean.shape)
        low, high = (self.bound * (1 + self.spread * self.pattern(pair))).clamp_min(0)
        return weights._replace(mean=weights.mean.clamp(-low, high))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"bound={self.bound:g}, spread={self.spread:g}"


class GainOffset(Effect):
    """a (1 + g z₁) + o z₂, with fixed z₁, z₂ ~ N(0, 1) for every node.

    The nodes of a layer lie along dimension 1 of its output: features of a Linear, channels of a
    convolution. There are no generally accepted default values.

    Args:
        gain: g, standard deviation of the relative gain.
        offset: o, standard deviation of the offset, in units of the activity.
        dim: dimension of the nodes; −1 for a Linear over positions.
        device_seed: of the chip; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a gain or offset that is negative or not finite.

    >>> import torch
    >>> bool((GainOffset(0.3, 0.3)(torch.ones(4, 3)).std(0) == 0).all())
    True
    """

    def __init__(
        self, gain: float, offset: float = 0.0, *, dim: int = 1, device_seed: int | None = None
    ) -> None:
        super().__init__()
        not_negative(gain=gain, offset=offset)
        self.gain, self.offset, self.dim = gain, offset, dim
        self.pattern = Pattern(device_seed, "gains and offsets")

    def forward(self, a: Tensor) -> Tensor:
        """Apply gain and offset of every node: (B, *out) → (B, *out)."""
        shape = [1] * a.dim()
        shape[self.dim] = a.shape[self.dim]
        z1, z2 = self.pattern(a.detach().new_empty(2, *shape))
        return a * (1 + self.gain * z1) + self.offset * z2

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"gain={self.gain:g}, offset={self.offset:g}"
