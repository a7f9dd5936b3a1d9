"""Firing mechanisms: a hard threshold, a noisy threshold, and escape noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.noise import Source
from noisynets.systems.checks import positive


class Arctan(torch.autograd.Function):
    """Spikes with the surrogate derivative of an arctan, 1/(1 + (π x)²).

    Used only by backpropagation through time. Fang et al., *Incorporating Learnable Membrane Time
    Constant* (ICCV 2021), with α = 2 as in snnTorch's `surrogate.atan`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spikes: Tensor) -> Tensor:
        """Return the spikes, and save x for the backward pass."""
        ctx.save_for_backward(x)
        return spikes.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient with respect to x."""
        (x,) = ctx.saved_tensors
        return grads[0] / (1 + (math.pi * x).square()), None


def surrogate(x: Tensor, spikes: Tensor) -> Tensor:
    """Return the spikes, with a surrogate derivative with respect to x if autograd records."""
    if torch.is_grad_enabled() and x.requires_grad:
        return Arctan.apply(x, spikes)
    return spikes


class Threshold(nn.Module):
    """A spike if x = u − θ > 0.

    Args:
        spike_grad: function from x to spikes with a surrogate derivative, such as those of
            `snntorch.surrogate`; used only while autograd records. None: `Arctan`.

    >>> Threshold()(torch.tensor([-0.1, 0.0, 0.1]))
    tensor([0., 0., 1.])
    """

    def __init__(self, spike_grad: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.spike_grad = spike_grad

    def forward(self, x: Tensor) -> Tensor:
        """Convert distances to threshold of any shape to spikes of the same shape."""
        if self.spike_grad is not None and torch.is_grad_enabled() and x.requires_grad:
            return self.spike_grad(x).to(x.dtype)
        return surrogate(x, (x > 0).to(x.dtype))


class NoisyThreshold(nn.Module):
    """A spike if u > θ + N(0, σ²), drawn independently for every neuron and step.

    Args:
        sigma: σ, in units of the potential.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a σ that is not positive and finite.

    >>> NoisyThreshold(0.01)(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, sigma: float, seed: int | None = None) -> None:
        super().__init__()
        positive(sigma=sigma)
        self.__sigma = sigma
        self.source = Source(seed, "noise of thresholds")

    def forward(self, x: Tensor) -> Tensor:
        """Convert distances to threshold of any shape to spikes of the same shape."""
        return surrogate(x, (x > self.source.normal(x.detach(), self.__sigma)).to(x.dtype))


class EscapeRate(nn.Module):
    """A spike with probability 1 − exp(−ρ), ρ = rate · exp(x/Δ): escape noise.

    Gerstner and Kistler, *Spiking Neuron Models* (2002), section 5.3; the hazard, integrated over
    one step, is approximated by ρ.

    Args:
        width: Δ, in units of the potential; for Δ → 0 the threshold becomes hard.
        rate: ρ at threshold, per step.
        seed: of the draws; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a width or rate that is not positive and finite.

    >>> EscapeRate(0.01)(torch.tensor([-1.0, 1.0]))
    tensor([0., 1.])
    """

    def __init__(self, width: float, rate: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        positive(width=width, rate=rate)
        self.__width = width
        self.__rate = rate
        self.source = Source(seed, "random firing")

    def probability(self, x: Tensor) -> Tensor:
        """Return P(spike) at distances x from threshold, of the shape of x."""
        return -torch.expm1(-self.__rate * torch.exp((x / self.__width).clamp_max(80.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Convert distances to threshold of any shape to spikes of the same shape."""
        return surrogate(x, self.source.bernoulli(self.probability(x.detach())))
