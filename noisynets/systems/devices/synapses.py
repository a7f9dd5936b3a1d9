"""Synapses that are noisy in every single product."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import not_negative, probability


class WeightNoise(Effect):
    """W + N(0, (σ max|W|)²), drawn anew for every weight in every product.

    aihwkit's `w_noise`: 0.0175 in its PCM presets, about 0.01 for ReRAM.

    Args:
        sigma: standard deviation, as a share of the layer's largest |W|.

    >>> import torch
    >>> WeightNoise(0.1).weights(Weights(torch.tensor([[1.0, -2.0]]))).variance
    tensor([[0.0400, 0.0400]])
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        self.sigma = sigma

    def weights(self, weights: Weights) -> Weights:
        """Leave the mean, and add to the variance."""
        added = (self.sigma * weights.mean.abs().amax()).square().expand_as(weights.mean)
        return Weights(weights.mean, add(weights.variance, added))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.sigma:g}"


class StochasticSynapse(Effect):
    """Each synapse transmits with probability p in every product: Σ_j m_ij W_ij x_j, m ~ B(p).

    Mean and variance are those of independent Bernoulli masks, p W and p(1 − p) W²; the sum over
    many synapses is drawn as a Gaussian instead of mask by mask, which would take a mask of the
    size of the weights for every row. Neftci et al., Frontiers in Neuroscience 10 (2016) 241,
    use p about 0.5.

    Args:
        release: p.

    >>> import torch
    >>> StochasticSynapse(0.5).weights(Weights(torch.tensor([[2.0, -4.0]])))
    Weights(mean=tensor([[ 1., -2.]]), variance=tensor([[1., 4.]]))
    """

    def __init__(self, release: float = 0.5) -> None:
        super().__init__()
        probability(release=release)
        self.release = release

    def weights(self, weights: Weights) -> Weights:
        """Scale the mean, and add the masks' variance."""
        p, mean = self.release, weights.mean
        mask = p * (1 - p) * mean.square()
        old = None if weights.variance is None else p * weights.variance
        return Weights(p * mean, add(old, mask))

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"release={self.release:g}"


def add(variance: Tensor | None, more: Tensor) -> Tensor:
    """Add a variance to what may be none."""
    return more if variance is None else variance + more
