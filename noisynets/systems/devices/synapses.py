"""Synapses with noise that is drawn independently in every product."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import not_negative, probability


class WeightNoise(Effect):
    """W + N(0, (σ max|W|)²), drawn independently for every weight in every product.

    aihwkit's `w_noise`: 0.0175 in its PCM presets, about 0.01 for ReRAM.

    Args:
        sigma: σ, relative to the largest |W| of the layer.

    Raises:
        InputError: for a σ that is negative or not finite.

    >>> import torch
    >>> WeightNoise(0.1).weights(Weights(torch.tensor([[1.0, -2.0]]))).variance
    tensor([[0.0400, 0.0400]])
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.sigma = sigma

    def weights(self, weights: Weights) -> Weights:
        """Add σ² max|W|² to the variance; the mean is unchanged."""
        added = (self.sigma * weights.mean.abs().amax()).square().expand_as(weights.mean)
        return Weights(weights.mean, add(weights.variance, added))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.sigma:g}"


class StochasticSynapse(Effect):
    """Synapses that transmit with probability p: Σ_j m_ij W_ij x_j, m ~ Bernoulli(p).

    The masks m are independent in every product. The sum is drawn from a Gaussian with their mean
    p W and variance p (1 − p) W²: explicit masks would need a tensor of the size of the weights
    for every row. Neftci et al., Frontiers in Neuroscience 10 (2016) 241, use p of about 0.5.

    Args:
        release: p.

    Raises:
        InputError: if p is not between 0 and 1.

    >>> import torch
    >>> StochasticSynapse(0.5).weights(Weights(torch.tensor([[2.0, -4.0]])))
    Weights(mean=tensor([[ 1., -2.]]), variance=tensor([[1., 4.]]))
    """

    def __init__(self, release: float = 0.5) -> None:
        super().__init__()
        probability(release=release)
        self.release = release

    def weights(self, weights: Weights) -> Weights:
        """Scale the mean by p, and add the variance of the masks."""
        p, mean = self.release, weights.mean
        mask = p * (1 - p) * mean.square()
        old = None if weights.variance is None else p * weights.variance
        return Weights(p * mean, add(old, mask))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"release={self.release:g}"


def add(variance: Tensor | None, more: Tensor) -> Tensor:
    """Add `more` to a variance, where None means no variance."""
    return more if variance is None else variance + more
