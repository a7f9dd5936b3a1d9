"""When a neuron fires: at a threshold, at a noisy one, or at a rate that rises towards it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.noise import Source
from noisynets.systems.checks import positive


class Arctan(torch.autograd.Function):
    """Spikes, with the surrogate derivative of arctan: 1/(1 + (π x)²).

    Only backpropagation through time asks for it. Fang et al., *Incorporating Learnable Membrane
    Time Constant* (ICCV 2021), with α = 2 as in snnTorch's `surrogate.atan`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spikes: Tensor) -> Tensor:
        """Hand out the spikes; keep x for the way back."""
        ctx.save_for_backward(x)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to x."""
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + (math.pi * x).square()), None


def surrogate(x: Tensor, spikes: Tensor) -> Tensor:
    """Spikes, with a surrogate derivative with respect to x where a graph is recorded."""
    if torch.is_grad_enabled() and x.requires_grad:
        return Arctan.apply(x, spikes)
    return spikes


class Threshold(nn.Module):
    """A spike where x = u − θ > 0.

    Args:
        spike_grad: from x to spikes, with a surrogate derivative of one's own, such as those of
            `snntorch.surrogate`; used where a graph is recorded. None: `Arctan`.

    >>> Threshold()(torch.tensor([-0.1, 0.0, 0.1]))
    tensor([0., 0., 1.])
    """

    def __init__(self, spike_grad: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.spike_grad = spike_grad

    def forward(self, x: Tensor) -> Tensor:
        """Distances to threshold, any shape → spikes, the same shape."""
        if self.spike_grad is not None and torch.is_grad_enabled() and x.requires_grad:
            return self.spike_grad(x).to(x.dtype)
        return surrogate(x, (x > 0).to(x.dtype))


class NoisyThreshold(nn.Module):
    """A spike where u > θ + N(0, σ²), drawn anew for every neuron and step.

    Args:
        sigma: standard deviation, in units of the potential.
        seed: of the noise; None draws one.

    >>> NoisyThreshold(0.01)(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        positive(sigma=sigma)
        self.__sigma = sigma
        self.source = Source(seed)

    def forward(self, x: Tensor) -> Tensor:
        """Distances to threshold, any shape → spikes, the same shape."""
        return surrogate(x, (x > self.source.normal(x.detach(), self.__sigma)).to(x.dtype))


class EscapeRate(nn.Module):
    """A spike with probability 1 − exp(−ρ), ρ = rate · exp(x/Δ): escape noise.

    Gerstner and Kistler, *Spiking Neuron Models* (2002), section 5.3, with the hazard's integral
    over one step taken as ρ.

    Args:
        width: Δ, in units of the potential: the smaller, the closer to a hard threshold.
        rate: ρ at threshold, per step.
        seed: of the draws; None draws one.

    >>> EscapeRate(0.01)(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, width: float, rate: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        positive(width=width, rate=rate)
        self.__width = width
        self.__rate = rate
        self.source = Source(seed)

    def probability(self, x: Tensor) -> Tensor:
        """P(spike) at a distance x from threshold."""
        return -torch.expm1(-self.__rate * torch.exp((x / self.__width).clamp_max(80.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Distances to threshold, any shape → spikes, the same shape."""
        return surrogate(x, self.source.bernoulli(self.probability(x.detach())))
