"""The measured gate: a unit's local gain, from what it was given and what it gave."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW, HARDLY = 0.1, 0.01
"""What makes a bin lean on those around it, and these on all: shares of a bin's mean weight."""


class Gate:
    """E[δy δa | a] / E[δa² | a], a running histogram over a: no derivative, any unit.

    The range follows the data: four standard deviations to both sides of the running mean.

    Args:
        bins: of the histogram.
        forgetting: share by which each update replaces what came before.
        rows: of a batch, at most, from which an update is made.

    >>> a = torch.randn(400, 50)
    >>> shift = 0.1 * torch.randn(400, 50)
    >>> gate = Gate()
    >>> for _ in range(50):
    ...     gate.update_(a, shift, (a + shift).relu() - a.relu())
    >>> gain = gate(torch.tensor([-1.0, 1.0]))
    >>> bool(gain[0].abs() < 0.05), bool((gain[1] - 1).abs() < 0.05)
    (True, True)
    """

    def __init__(self, bins: int = 128, forgetting: float = 0.02, rows: int = 64) -> None:
        self.bins, self.forgetting, self.rows = bins, forgetting, rows
        self._sums: Tensor | None = None  # (2, bins): δy δa, δa²
        self._span: Tensor | None = None  # mean and mean square of a
        self._gain: Tensor | None = None  # per bin, until the next update
        self._axis: tuple[Tensor, Tensor] | None = None  # bins per unit of a, and place of a = 0

    @torch.no_grad()
    def update_(self, a: Tensor, shift: Tensor, response: Tensor) -> None:
        """Learn from activities, their differences δa and the unit's δy, all of one shape."""
        a, shift, response = (t[: self.rows].flatten().float() for t in (a, shift, response))
        span = torch.stack([a.mean(), a.square().mean()])
        rate = self.forgetting
        if self._sums is None or self._span is None:
            self._span, self._sums, rate = span.nan_to_num(), a.new_zeros(2, self.bins), 1.0
        old = self._span.to(a.device)
        self._span = torch.where(span.isfinite().all(), old.lerp(span, rate), old)
        self._sums = self._sums.to(a.device)
        self._gain = self._axis = None
        products = torch.stack([response * shift, shift.square()])
        seen = torch.zeros_like(self._sums).index_add_(1, self._bin(a), products)
        sound = seen.isfinite().all() & span.isfinite().all()  # a diverged pass teaches nothing
        self._sums = torch.where(sound, self._sums.lerp(seen, rate), self._sums)

    def __call__(self, a: Tensor) -> Tensor:
        """Return the gain at each activity, of the shape of `a`; 0 before the first update.

        A bin of which little was seen leans on those around it, and where little was seen there,
        on the mean gain: a single pair whose δa happened to be small would make it any number.
        """
        if self._sums is None:
            return torch.zeros_like(a)
        if self._gain is None:
            self._gain = _gain(self._sums)
        gain = self._gain.index_select(0, self._bin(a.flatten().float()))
        return gain.view(a.shape).to(a.dtype)

    @property
    def known(self) -> bool:
        """True after the first update."""
        return self._sums is not None

    @property
    def mean(self) -> Tensor:
        """Gain over all activities, E[δy δa]/E[δa²]; 0 before all updates."""
        if self._sums is None:
            return torch.zeros(())
        top, bottom = self._sums.sum(1)
        return torch.where(bottom > 0, top / bottom, 0)

    @property
    def explained(self) -> Tensor:
        """Mean square of δy that δa explains, Σ E[δy δa | a]²/E[δa² | a]; 0 before all updates."""
        if self._sums is None:
            return torch.zeros(())
        top, bottom = self._sums
        return torch.where(bottom > 0, top.square() / bottom, 0).sum()

    def _bin(self, a: Tensor) -> Tensor:
        if self._axis is None:
            assert self._span is not None
            mean, square = self._span
            scale = self.bins / (8 * (square - mean.square()).clamp_min(1e-20).sqrt())
            self._axis = scale, self.bins / 2 - mean * scale
        scale, middle = self._axis
        return (a * scale).add_(middle).nan_to_num_(0).clamp_(0, self.bins - 1).long()

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        if self._sums is None or self._span is None:
            return {}
        return {"sums": self._sums, "span": self._span}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._sums, self._span = state.get("sums"), state.get("span")
        self._gain = self._axis = None


def _gain(sums: Tensor) -> Tensor:
    """Return the gain in every bin, (bins,), from the sums of δy δa and of δa², (2, bins)."""
    mean = sums.sum(1, keepdim=True) / sums.shape[1]
    around = F.avg_pool1d(sums, 5, 1, 2) + HARDLY * mean
    few = FEW * mean[1]
    tiny = torch.finfo(mean.dtype).tiny
    return (sums[0] + few * around[0] / (around[1] + tiny)) / (sums[1] + few + tiny)
