"""Weights as differences of two conductances, and what becomes of them when they are written.

A weight is (g⁺ − g⁻) scale, with scale = max|W| of its layer and both conductances as shares of
g_max: g⁺ = max(W, 0)/scale, g⁻ = max(−W, 0)/scale. The form of aihwkit's
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
    """max|W|, the weight that g_max stands for; never 0."""
    return weight.detach().abs().amax().clamp_min(torch.finfo(weight.dtype).tiny)


def to_conductances(weight: Tensor, largest: Tensor) -> Tensor:
    """W (*weight) → (g⁺, g⁻), shares of g_max: (2, *weight).

    >>> to_conductances(torch.tensor([1.0, -0.5]), torch.tensor(1.0))
    tensor([[1.0000, 0.0000],
            [0.0000, 0.5000]])
    """
    share = weight.detach() / largest
    return torch.stack([share, -share]).clamp_min(0)


def from_conductances(
    weights: Weights, g: Tensor, largest: Tensor, noise: Tensor | None = None
) -> Weights:
    """Return the weights that a pair of conductances makes, with the noise of both added.

    Autograd sees the weights as they were before.

    Args:
        weights: as they were meant.
        g: (g⁺, g⁻), (2, *weight), shares of g_max.
        largest: scale of the layer.
        noise: standard deviation of both in every product, (2, *weight), shares of g_max.
    """
    mean, variance = weights
    real = (g[0] - g[1]) * largest
    if noise is not None:
        own = noise.square().sum(0) * largest.square()
        variance = own if variance is None else variance + own
    return Weights(mean + (real - mean).detach(), variance)


LEAST_CHANGE = 1e-6


class DeviceArray(LazyBuffers):
    """Devices that are written whenever their target changes, each time a little off.

    g = max(g_target + σ z, 0), with a new z ~ N(0, 1) at every writing, for the devices that
    are written and only for them. A change of less than a millionth of g_max is not worth one;
    such changes add up until they are.

    Args:
        age: of a device at its first read, in seconds.
        seed: of the writing; None draws one.

    Attributes:
        target: what was last written, shares of g_max.
        written: what came of it, shares of g_max.
        age: time since then, per device, in seconds, in float64.
        waiting: time that will have passed at the next read, in seconds.
    """

    buffer_names = ("target", "written", "age")
    target: Tensor | None
    written: Tensor | None
    age: Tensor | None
    waiting: Tensor

    def __init__(self, age: float, seed: int | None = None) -> None:
        super().__init__()
        self.first_age = age
        self.source = Source(seed)
        self.register_buffer("waiting", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def write(self, target: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Write what has changed; return conductances and ages, both of the shape of `target`."""
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
        """Let time pass before the next read; what has changed until then is written first."""
        self.waiting = self.waiting + seconds

    def advance_written_(self, seconds: float) -> None:
        """Let time pass at once, for what is written now."""
        if self.age is not None:
            self.age = self.age + seconds


class StuckAt(Effect):
    """Devices that cannot be written: a share stays at conductance 0, another at g_max.

    Both conductances of a pair can be stuck. Often quoted: 1.75 % low, 9.04 % high; about 10 % in
    all on one test chip (MemTorch's `DeviceFaults.py`; Electronics 10 (2021) 2427).

    Args:
        low: probability of a device to be stuck at 0.
        high: probability of a device to be stuck at g_max.
        device_seed: of the chip; None draws one.

    Raises:
        InputError: if they are no probabilities, also together.

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
        self.pattern = Pattern(device_seed, uniform=True)

    def weights(self, weights: Weights) -> Weights:
        """Replace what is stuck; a stuck device has no noise of its own."""
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
