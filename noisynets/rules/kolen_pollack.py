"""Kolen and Pollack's mirrors: mirrored credit whose maps also take over changes of the weights."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from noisynets.core.types import Node
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.mirror import new_mirror
from noisynets.rules.credit.saturation import SaturationMask
from noisynets.rules.rule import RuleEntry, Traits


class Following(Map, Protocol):
    """A map that can take changes of its layer's weights over."""

    def follow_(self, change: Tensor) -> None:
        """Take over a change ΔW, of the shape of the map; nothing before the first update."""

    def as_map(self, weight: Tensor) -> Tensor:
        """Return the map of the layer without effects, if its `weight` had these values."""


class FollowingMirror:
    """A mirror that also takes over every change of its layer's weights: M ← M + ΔW.

    It therefore does not lag behind training, and learns from pairs only the initial weights and
    what a device makes of them. ΔW is what training itself has written; nothing else of W is read.

    Source: Kolen and Pollack, *Backpropagation without weight transport* (1994), where map and
    weights start anywhere and decay alike; for deep networks Akrout et al. (2019).

    Args:
        layer: gives the geometry, and the changes of its `weight`.
        rows: used in one update, at most.
        mirror: that takes the changes over; None: the one of the layer.
    """

    learns = True

    def __init__(self, layer: nn.Module, rows: int = 128, mirror: Following | None = None) -> None:
        self.layer = layer
        self.mirror = new_mirror(layer, rows) if mirror is None else mirror
        self._seen: Tensor | None = None

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Follow the weights, then learn from differences, as a mirror does."""
        self._follow()
        self.mirror.update_(x, shift, made)

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """Follow the weights; then return the credit of the input, as a mirror does."""
        self._follow()
        return self.mirror(credit, x)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return what a mirror predicts, (K, B, *in) → (K, B, *out), after the first update."""
        return self.mirror.predict(x, shift)

    @property
    def lag(self) -> Tensor | None:
        """That of the mirror: what followed from no change of the weights; see `Map`."""
        return self.mirror.lag

    @property
    def map(self) -> Tensor | None:
        """That of the mirror; None before the first update."""
        return self.mirror.map

    def followed(self) -> Tensor:
        """Return the weights whose changes are followed."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor), "layers with mirrors have one weight"
        return weight

    @torch.no_grad()
    def _follow(self) -> None:
        now = self.mirror.as_map(self.followed().detach())
        seen = now if self._seen is None else self._seen
        sound = now.isfinite().all()  # a diverged step is left out
        self.mirror.follow_(torch.where(sound, now - seen, 0))
        self._seen = torch.where(sound, now, seen)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        kept = self.mirror.state()
        return kept if self._seen is None else kept | {"seen": self._seen}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self.mirror.restore({k: v for k, v in state.items() if k != "seen"}, device)
        self._seen = state["seen"].to(device) if "seen" in state else None


def following_mirror(node: Node) -> FollowingMirror:
    """Return a new mirror of a node."""
    return FollowingMirror(node.product)


def make(seed: int = 0) -> LayerwiseFeedback:
    """Return the rule; it draws nothing, and reads changes of weights."""
    return LayerwiseFeedback(following_mirror, SaturationMask())


ENTRY = RuleEntry(
    "kolen-pollack",
    "mirrored credit whose maps take over what training does to the weights",
    make,
    Traits(mirrors=True, reads_weight_changes=True),
    adam_beta2=0.99,
)
