"""Noise that is correlated in time: telegraph noise and 1/f^β noise.

The rows of a batch are consecutive time steps, and time continues from call to call. In a pair of
passes the rows of the reference batch come first, followed by those of each noisy batch, as in the
hardware experiments of arXiv 2412.12783. If the two passes of a sample were neighbours in time,
slow noise would cancel in their difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.noise import Source
from noisynets.core.types import Effect
from noisynets.systems.checks import finite, not_negative, probability
from noisynets.systems.devices.pattern import LazyBuffers


class Telegraph(LazyBuffers, Effect):
    """a + mean ± amplitude, where the sign at every node flips with probability p from row to row.

    A symmetric two-level Markov chain with variance amplitude², autocorrelation (1 − 2p)^k over k
    rows and correlation time −1/ln(1 − 2p) rows. The defaults are those of the simulated magnetic
    tunnel junction in artcogsys/MTJ-Node-Perturbation, including its white noise of σ = 9e-4.

    Args:
        amplitude: half the distance between the levels, in units of the activity.
        flips: p, probability of a flip per row.
        mean: of the two levels, in units of the activity.
        white: standard deviation of additional white noise, in units of the activity.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Attributes:
        level: current sign at every node, (*out); None before the first call.

    Raises:
        InputError: for a setting out of range; in a call, for activities of another shape than in
            the first.

    >>> Telegraph(amplitude=0.5, flips=0.1, mean=0, white=0)(torch.zeros(9, 2)).abs().unique()
    tensor([0.5000])
    """

    buffer_names = ("level",)
    level: Tensor | None

    def __init__(
        self,
        amplitude: float = 0.0059,
        flips: float = 0.0809,
        *,
        mean: float = 0.042,
        white: float = 9e-4,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        not_negative(amplitude=amplitude, white=white)
        finite(mean=mean)
        probability(flips=flips)
        self.amplitude, self.flips, self.mean, self.white = amplitude, flips, mean, white
        self.source = Source(seed, "telegraph noise")

    def forward(self, a: Tensor) -> Tensor:
        """Add the noise of B consecutive time steps: (B, *out) → (B, *out)."""
        level = self.level
        if level is None:  # the chain starts in its stationary distribution
            level = 1 - 2 * self.source.bernoulli(torch.full_like(a[0], 0.5))
        _check_shape(level, a[0])
        flips = self.source.bernoulli(torch.full_like(a, self.flips))
        parity = flips.int().cumsum(0) % 2
        levels = level.to(a) * (1 - 2 * parity).to(a)
        self.level = levels[-1].detach().clone()
        noise = self.mean + self.amplitude * levels
        return a + (noise + self.source.normal(a, self.white) if self.white else noise)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return (
            f"amplitude={self.amplitude:g}, flips={self.flips:g}, mean={self.mean:g}, "
            f"white={self.white:g}"
        )


class Coloured(LazyBuffers, Effect):
    """a + noise of standard deviation σ with a power spectrum of 1/f^β; β = 0 is white noise.

    White noise is filtered by fractional integration, h_0 = 1, h_k = h_{k−1} (k − 1 + β/2)/k, cut
    off after `memory` rows and scaled to unit power. Its autocorrelation is exactly
    Σ_j h_j h_{j+k}; the spectrum follows the power law from 1/memory to half a cycle per row.
    Kasdin, Proceedings of the IEEE 83 (1995) 802.

    Args:
        sigma: σ, in units of the activity.
        beta: β, from 0 to below 2.
        memory: length of the filter, in rows.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Attributes:
        past: white noise of the last memory − 1 rows, (memory − 1, *out); None before the first
            call.

    Raises:
        InputError: for a setting out of range; in a call, for activities of another shape than in
            the first.

    >>> Coloured(0.1, beta=1)(torch.zeros(5, 3)).shape
    torch.Size([5, 3])
    """

    buffer_names = ("past",)
    past: Tensor | None
    _filter: Tensor

    def __init__(
        self, sigma: float, beta: float = 1.0, memory: int = 256, *, seed: int | None = None
    ) -> None:
        super().__init__()
        not_negative(sigma=sigma)
        if not 0 <= beta < 2:
            raise InputError(f"beta {beta:g} must be at least 0 and below 2")
        if memory < 2:
            raise InputError(f"memory {memory} must be at least 2 rows")
        self.sigma, self.beta, self.memory = sigma, beta, memory
        self.source = Source(seed, "coloured noise")
        self.register_buffer("_filter", self.filter(), persistent=False)

    def filter(self) -> Tensor:
        """Return the filter h, (memory,), of unit power, in float64."""
        k = torch.arange(1, self.memory, dtype=torch.float64)
        h = torch.cat(
            [torch.ones(1, dtype=torch.float64), ((k - 1 + self.beta / 2) / k).cumprod(0)]
        )
        return h / h.norm()

    def forward(self, a: Tensor) -> Tensor:
        """Add the noise of B consecutive time steps: (B, *out) → (B, *out)."""
        rows, reach = len(a), self.memory - 1
        past = self.past
        if past is None:
            past = self.source.normal(a.new_empty(reach, *a.shape[1:]))
        _check_shape(past[0], a[0])
        white = torch.cat([past.to(a), self.source.normal(a)])
        self.past = white[-reach:].detach().clone()
        wide = white if white.dtype == torch.float64 else white.float()
        n = rows + 2 * reach
        spectrum = torch.fft.rfft(self._filter.to(wide), n).view(-1, *[1] * (a.dim() - 1))
        noise = torch.fft.irfft(torch.fft.rfft(wide, n, dim=0) * spectrum, n, dim=0)
        return a + self.sigma * noise[reach : reach + rows].to(a)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"sigma={self.sigma:g}, beta={self.beta:g}, memory={self.memory}"


def _check_shape(state: Tensor, row: Tensor) -> None:
    if state.shape != row.shape:
        raise InputError(
            f"a noise source with the state of nodes {tuple(state.shape)} is used for nodes "
            f"{tuple(row.shape)}: give each layer its own"
        )
