"""Weights stored as differences of two conductances, and errors in writing them.

W = (g⁺ − g⁻) scale, where scale = max|W| of the layer, and both conductances are relative to g_max:
g⁺ = max(W, 0)/scale, g⁻ = max(−W, 0)/scale. This is the form of aihwkit's
`SinglePairConductanceConverter`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.core.noise import Source
from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import probability
from noisynets.systems.devices.pattern import LazyBuffers, Pattern


def scale(weight: Tensor) -> Tensor:
    """max|W|, the weight that g_max represents; at least the smallest positive float."""
    return weight.detach().abs().amax().clamp_min(torch.finfo(weight.dtype).tiny)


def to_conductances(weight: Tensor, largest: Tensor) -> Tensor:
    """Convert weights (*weight) to pairs (g⁺, g⁻) relative to g_max, (2, *weight).

    >>> to_conductances(torch.tensor([1.0, -0.5]), torch.tensor(1.0))
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    share = weight.detach() / largest
    return torch.stack([share, -share]).clamp_min(0)


def from_conductances(
    weights: Weights, g: Tensor, largest: Tensor, noise: Tensor | None = None
) -> Weights:
    """Convert pairs of conductances to weights, and add the variances of their noise.

    The gradient with respect to the result passes unchanged to `weights.mean`.

    Args:
        weights: the weights before they were written to the devices.
        g: (g⁺, g⁻), (2, *weight), relative to g_max.
        largest: scale of the layer.
        noise: standard deviation of each conductance in every product, (2, *weight), relative to
            g_max; None: no noise.
    """
    mean, variance = weights
    real = (g[0] - g[1]) * largest
    if noise is not None:
        own = noise.square().sum(0) * largest.square()
        variance = own if variance is None else variance + own
    return Weights(mean + (real - mean).detach(), variance)


LEAST_CHANGE = 1e-6
"""Smallest change of a target, relative to g_max, for which a device is rewritten."""


class DeviceArray(LazyBuffers):
    """Conductances that are rewritten, with a random error, whenever their targets change.

    g = max(g_target + σ z, 0), with a new z ~ N(0, 1) whenever a device is written. A device is
    written only if its target differs from the last written target by more than `LEAST_CHANGE`.

    Args:
        age: of a device at its first read after writing, in seconds.
        seed: of the writing errors; None: drawn from PyTorch's global generator.

    Attributes:
        target: targets last written, relative to g_max.
        written: conductances right after writing, relative to g_max.
        age: time since writing, per device, in seconds, float64.
        waiting: time that is added to the ages at the next read, in seconds.
    """

    buffer_names = ("target", "written", "age")
    target: Tensor | None
    written: Tensor | None
    age: Tensor | None
    waiting: Tensor

    def __init__(self, age: float, seed: int | None = None) -> None:
        super().__init__()
        self.first_age = age
        self.source = Source(seed, "writing errors")
        self.register_buffer("waiting", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def write(self, target: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Write the devices whose targets have changed.

        Args:
            target: target conductances, of any shape, relative to g_max.
            sigma: σ of the writing error, of the same shape, relative to g_max.

        Returns:
            Conductances and ages in seconds, both of the shape of `target`.
        """
        rewritten = (target + sigma * self.source.normal(target)).clamp_min_(0)
        first = torch.full_like(target, self.first_age, dtype=torch.float64)
        if self.target is None or self.written is None or self.age is None:
            self.target, self.written, self.age = target, rewritten, first
        else:
            old, age = self.target.to(target), self.age.to(first)
            changed = (target - old).abs() > LEAST_CHANGE
            self.target = torch.where(changed, target, old)
            self.written = torch.where(changed, rewritten, self.written.to(target))
            self.age = torch.where(changed, first, age)
        self.age = self.age + self.waiting.to(first)
        self.waiting = torch.zeros_like(self.waiting)
        return self.written, self.age

    def advance_(self, seconds: float) -> None:
        """Advance time before the next read; devices with a new target are written before that."""
        self.waiting = self.waiting + seconds

    def advance_written_(self, seconds: float) -> None:
        """Advance time at once, for the conductances written so far."""
        if self.age is not None:
            self.age = self.age + seconds


class StuckAt(Effect):
    """Devices that cannot be written: some have conductance 0, others g_max.

    Each conductance of a pair is stuck independently. Often quoted: 1.75 % low, 9.04 % high; about
    10 % together on one test chip (MemTorch's `DeviceFaults.py`; Electronics 10 (2021) 2427).

    Args:
        low: probability that a device is stuck at 0.
        high: probability that a device is stuck at g_max.
        device_seed: of the chip; None: drawn from PyTorch's global generator.

    Raises:
        InputError: if `low`, `high` or their sum is not between 0 and 1.

    >>> StuckAt(low=1.0, high=0.0).weights(Weights(torch.ones(2, 2))).mean.sum()
    tensor(0.)
    """

    def __init__(
        self, low: float = 0.0175, high: float = 0.0904, device_seed: int | None = None
    ) -> None:
        super().__init__()
        probability(low=low, high=high)
        probability(**{"low + high": low + high})
        self.low, self.high = low, high
        self.pattern = Pattern(device_seed, "stuck devices", uniform=True)

    def weights(self, weights: Weights) -> Weights:
        """Replace the stuck conductances, and set their noise to 0."""
        largest = scale(weights.mean)
        g = to_conductances(weights.mean, largest)
        u = self.pattern(g)
        stuck = (u >= self.low).to(g)
        free = u >= self.low + self.high
        real = from_conductances(weights, torch.where(free, g, stuck), largest)
        if real.variance is None:
            return real
        active_is_free = torch.where(g[0] >= g[1], free[0], free[1])
        return real._replace(variance=real.variance * active_is_free)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"low={self.low:g}, high={self.high:g}"
