"""Activation functions without a useful derivative, applied element by element to activities."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import Source
from noisynets.systems.checks import not_negative, positive


class Step(nn.Module):
    """y = 1 if a ≥ threshold, else 0 (McCulloch and Pitts, 1943).

    Args:
        threshold: in units of the activity.

    >>> Step()(torch.tensor([-0.1, 0.0, 2.0]))
    tensor([0., 1., 1.])
    """

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, a: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return (a >= self.threshold).to(a)


class Sign(nn.Module):
    """y = +1 if a ≥ 0, else −1.

    >>> Sign()(torch.tensor([-0.1, 0.0, 2.0]))
    tensor([-1.,  1.,  1.])
    """

    def forward(self, a: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return (a >= 0).to(a).mul_(2).sub_(1)


class Ternary(nn.Module):
    """y = +1 if a > threshold, −1 if a < −threshold, else 0.

    Args:
        threshold: in units of the activity, at least 0.

    Raises:
        InputError: for a threshold that is negative or not finite.

    >>> Ternary(0.5)(torch.tensor([-0.6, -0.5, 0.2, 0.7]))
    tensor([-1.,  0.,  0.,  1.])
    """

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        not_negative(threshold=threshold)
        self.threshold = threshold

    def forward(self, a: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return (a > self.threshold).to(a) - (a < -self.threshold).to(a)


class Quantiser(nn.Module):
    """y = the nearest of the 2^k levels low + i (high − low)/(2^k − 1), i = 0 … 2^k − 1.

    Activities outside [low, high] are clipped.

    Args:
        bits: k, at least 1.
        low: lowest level, in units of the activity.
        high: highest level, in units of the activity.

    Raises:
        InputError: for less than 1 bit, or low ≥ high.

    >>> Quantiser(bits=1)(torch.tensor([-3.0, -0.1, 0.1]))
    tensor([-1., -1.,  1.])
    """

    def __init__(self, bits: int = 4, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        if bits < 1:
            raise InputError(f"a quantiser needs at least 1 bit, not {bits} bits")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"the lowest level {low:g} must be below the highest level {high:g}")
        self.bits, self.low, self.high = bits, low, high

    def forward(self, a: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        step = (self.high - self.low) / (2**self.bits - 1)
        return ((a.clamp(self.low, self.high) - self.low) / step).round() * step + self.low


class KWinners(nn.Module):
    """k-winner-take-all: y_i = a_i if a_i is among the k largest activities of its sample, else 0.

    The k largest are taken over all nodes of the layer; ties are broken arbitrarily. Xiao, Zhong
    and Zheng, *Enhancing Adversarial Defense by k-Winners-Take-All* (ICLR 2020).

    Args:
        k: nodes per sample that keep their activity.

    Raises:
        InputError: for k < 1, or, in a call, for k above the number of nodes.

    >>> KWinners(k=1)(torch.tensor([[1.0, 3.0], [-2.0, -1.0]]))
    tensor([[ 0.,  3.],
            [ 0., -1.]])
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k {k} must be at least 1")
        self.k = k

    def forward(self, a: Tensor) -> Tensor:
        """Set all but the k largest activities to 0: (B, *out) → (B, *out)."""
        rows = a.flatten(1)
        if self.k > rows.shape[1]:
            raise InputError(f"{self.k} winners among {rows.shape[1]} nodes: use a smaller k")
        winners = rows.topk(self.k, dim=1).indices
        return torch.zeros_like(rows).scatter(1, winners, rows.gather(1, winners)).view_as(a)


class Bernoulli(nn.Module):
    """y = 1 with probability 1/(1 + exp(−a/τ)), else 0: the unit of a Boltzmann machine.

    Args:
        temperature: τ, in units of the activity.
        seed: of the random draws; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a temperature that is not positive and finite.

    >>> Bernoulli(temperature=0.01)(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, temperature: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        positive(temperature=temperature)
        self.temperature = temperature
        self.source = Source(seed, "Bernoulli units")

    def forward(self, a: Tensor) -> Tensor:
        """Draw y for a tensor of any shape."""
        return self.source.bernoulli((a.detach() / self.temperature).sigmoid())


class StochasticRounding(nn.Module):
    """y = step (⌊r⌋ + Bernoulli(r − ⌊r⌋)), r = a/step: random rounding whose mean is a.

    Args:
        step: distance between levels, in units of the activity.
        seed: of the random draws; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a step that is not positive and finite.

    >>> StochasticRounding()(torch.tensor([-2.0, 1.0]))
    tensor([-2.,  1.])
    """

    def __init__(self, step: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        positive(step=step)
        self.step = step
        self.source = Source(seed, "stochastic rounding")

    def forward(self, a: Tensor) -> Tensor:
        """Draw y for a tensor of any shape."""
        r = a.detach() / self.step
        down = r.floor()
        return self.step * (down + self.source.bernoulli((r - down).clamp_(0, 1)))


class Poisson(nn.Module):
    """y ~ Poisson(r dt), r = max(a, 0): the number of spikes in a time window.

    Args:
        dt: length of the window, in seconds if a is a rate per second.
        seed: of the random draws; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a window that is not positive and finite.

    >>> Poisson(dt=1.0)(torch.tensor([-3.0, 0.0]))
    tensor([0., 0.])
    """

    def __init__(self, dt: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        positive(dt=dt)
        self.dt = dt
        self.source = Source(seed, "Poisson units")

    def forward(self, a: Tensor) -> Tensor:
        """Draw y for a tensor of any shape."""
        return self.source.poisson(a.detach().clamp_min(0) * self.dt)


class SinglePhoton(nn.Module):
    """y = 1 with probability 1 − exp(−λ), λ = max(a, 0), else 0: a single-photon detector.

    Ma et al., *Quantum-noise-limited optical neural networks operating at a few quanta per
    activation* (arXiv 2307.15712).

    Args:
        seed: of the random draws; None: drawn from PyTorch's global generator.

    >>> SinglePhoton()(torch.tensor([-3.0, 99.0]))
    tensor([0., 1.])
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        self.source = Source(seed, "single-photon units")

    def forward(self, a: Tensor) -> Tensor:
        """Draw y for a tensor of any shape."""
        return self.source.bernoulli(-torch.expm1(-a.detach().clamp_min(0)))


class StraightThrough(nn.Module):
    """The values of one unit with the derivative of another; only backpropagation uses it.

    Bengio, Léonard and Courville, *Estimating or propagating gradients through stochastic neurons
    for conditional computation* (arXiv 1308.3432).

    Args:
        unit: gives the values.
        soft: differentiable function of the same shape that gives the derivatives.

    >>> a = torch.tensor([-0.4, 3.0], requires_grad=True)
    >>> y = StraightThrough(Sign(), lambda a: a.clamp(-1, 1))(a)
    >>> y.sum().backward()
    >>> y.tolist(), a.grad.tolist()
    ([-1.0, 1.0], [1.0, 0.0])
    """

    def __init__(self, unit: nn.Module, soft: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.unit = unit
        self.soft = soft

    def forward(self, a: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        soft = self.soft(a)
        hard: Tensor = self.unit(a).detach()
        return hard + (soft - soft.detach())
