"""Mirrors of normalisations: the gain of every channel is learnt, the rest is computed."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from noisynets.core.outer import gain_shape, normalised
from noisynets.rules.credit.vjp import vjp

FORGETTING = 0.05
"""Share of the sums that each update forgets."""


class NormMirror:
    """γ̂ with δa ≈ γ̂ ∘ δx̂, one number per channel or component.

    x̂ is the normalisation of the measured input, without its gain and offset. No weight is read:

    γ̂ = Σ δa δx̂ / Σ δx̂²

    over positions, rows and, with forgetting, updates. Without noise it is exact after one update.
    Credit passes the normalisation by its exact adjoint J(x)ᵀ at the measured input:
    credit of x = J(x)ᵀ (γ̂ ∘ credit). BatchNorm in training mode takes its statistics from the
    reference rows.

    Args:
        layer: a normalisation; gives the geometry.
        rows: used in one update, at most.

    >>> layer, x, shift = nn.LayerNorm(3), torch.randn(9, 3), 0.1 * torch.randn(1, 9, 3)
    >>> mirror = NormMirror(layer)
    >>> mirror.update_(x, shift, (2 * layer(x + shift) - 2 * layer(x)).detach())
    >>> [round(float(g), 2) for g in mirror.map]
    [2.0, 2.0, 2.0]
    """

    learns = True
    lag: Tensor | None = None

    def __init__(self, layer: nn.Module, rows: int = 128) -> None:
        self.layer, self.rows = layer, rows
        self._sums: Tensor | None = None  # Σ δa δx̂, Σ δx̂², (2, *gain)

    @torch.no_grad()
    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn from differences; see `Map`."""
        index = torch.arange(min(self.rows, len(x) * len(shift)), device=x.device)
        base = x[index % len(x)]
        wide = torch.promote_types(x.dtype, torch.float32)
        noisy = (base + shift.flatten(0, 1)[: self.rows]).to(wide)
        reference = x.to(wide)
        change = normalised(self.layer, noisy, reference)
        change = change - normalised(self.layer, base.to(wide), reference)
        a = made.flatten(0, 1)[: self.rows].to(wide)
        shape = gain_shape(self.layer, x.dim())
        found = torch.stack([(t * change).sum_to_size(shape) for t in (a, change)])
        old = torch.zeros_like(found) if self._sums is None else self._sums
        self._sums = torch.where(found.isfinite().all(), (1 - FORGETTING) * old + found, old)

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """J(x)ᵀ (γ̂ ∘ credit): of the activities (B, *out) → of the inputs x (B, *in)."""
        if self._sums is None:
            return credit.new_zeros(x.shape)
        return credit_of(self.layer, self._gain, credit, x)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """γ̂ ∘ δx̂, (K, b, *in) → (K, b, *out), after the first update."""
        base = x[: shift.shape[1]]
        noisy = normalised(self.layer, (base + shift).flatten(0, 1), x)
        change = noisy.unflatten(0, shift.shape[:2]) - normalised(self.layer, base, x)
        return self._gain.to(change.dtype) * change

    def as_map(self, weight: Tensor) -> Tensor:
        """Return the map of the layer without effects, if its `weight` had these values."""
        return weight

    @property
    def _gain(self) -> Tensor:
        """γ̂, shaped as it multiplies activities; 0 where nothing was measured."""
        assert self._sums is not None, "maps learn before they predict"
        top, bottom = self._sums
        return torch.where(bottom > 0, top / bottom, 0)

    @property
    def map(self) -> Tensor | None:
        """γ̂, of the shape of the layer's `weight`; None before the first update."""
        return None if self._sums is None else self._gain.flatten().view(_shape(self.layer))

    def follow_(self, change: Tensor) -> None:
        """Take over a change of γ, of the shape of `map`; nothing before the first update."""
        if self._sums is not None:
            bottom = self._sums[1]
            moved = self._gain + change.reshape(bottom.shape)
            self._sums = torch.stack([moved * bottom, bottom])

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return {} if self._sums is None else {"sums": self._sums}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._sums = state["sums"].to(device) if state else None


def credit_of(layer: nn.Module, gain: Tensor, credit: Tensor, x: Tensor) -> Tensor:
    """Return J(x)ᵀ (γ ∘ credit), (B, *in).

    Args:
        layer: a normalisation.
        gain: γ, as it multiplies activities.
        credit: of the activities, (B, *out).
        x: measured input, (B, *in).
    """
    return vjp(partial(normalised, layer), x, gain.to(credit.dtype) * credit).to(credit.dtype)


def _shape(layer: nn.Module) -> torch.Size:
    assert isinstance(layer.weight, Tensor), "a node has a gain"
    return layer.weight.shape
