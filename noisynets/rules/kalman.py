"""Kalman mirrors: mirrored credit whose maps follow commands, and correct what was made of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.core.outer import is_norm
from noisynets.core.types import Node, Wrapper
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.kalman_mirror import KalmanMirror
from noisynets.rules.credit.saturation import SaturationMask
from noisynets.rules.kolen_pollack import FollowingMirror
from noisynets.rules.rule import RuleEntry, Traits


class CommandedMirror:
    """A Kalman mirror that is told of every change of its layer's weights.

    Where weights are written by pulses, ΔW is what the pulses were to write: no device is read.
    Elsewhere it is the change of the layer's weights, as of `kolen-pollack`.

    Args:
        layer: gives the geometry, and the changes of its `weight`.
        inlet: the layer itself, or the wrapper around it, which may know what was commanded.
        rows: used in one update, at most.
    """

    learns = True

    def __init__(self, layer: nn.Module, inlet: nn.Module | None = None, rows: int = 128) -> None:
        self.layer, self.inlet = layer, layer if inlet is None else inlet
        self.mirror = KalmanMirror(layer, rows)
        self._seen: Tensor | None = None

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Follow the commands, then learn from differences."""
        self._follow()
        self.mirror.update_(x, shift, made)

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """Follow the commands; then return the credit of the input, as a mirror does."""
        self._follow()
        return self.mirror(credit, x)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return what the mirror predicts, (K, B, *in) → (K, B, *out), after the first update."""
        return self.mirror.predict(x, shift)

    @property
    def lag(self) -> Tensor | None:
        """That of the mirror: what followed from no command; see `Map`."""
        return self.mirror.lag

    @property
    def map(self) -> Tensor | None:
        """That of the mirror; None before the first update."""
        return self.mirror.map

    @torch.no_grad()
    def _follow(self) -> None:
        now = self.mirror.as_map(self._commanded().detach())
        seen = now if self._seen is None else self._seen
        sound = now.isfinite().all()  # a diverged step is left out
        self.mirror.command_(torch.where(sound, now - seen, 0))
        self._seen = torch.where(sound, now, seen)

    def _commanded(self) -> Tensor:
        commanded = self.inlet.commanded if isinstance(self.inlet, Wrapper) else None
        if commanded is not None:
            return commanded
        weight = self.layer.weight
        assert isinstance(weight, Tensor), "layers with mirrors have one weight"
        return weight

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        kept = self.mirror.state()
        return kept if self._seen is None else kept | {"seen": self._seen}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self.mirror.restore({k: v for k, v in state.items() if k != "seen"}, device)
        self._seen = state["seen"].to(device) if "seen" in state else None


def commanded_mirror(node: Node) -> CommandedMirror | FollowingMirror:
    """Return a new mirror of a node; of a normalisation, whose gains are written exactly."""
    if is_norm(node.product):
        return FollowingMirror(node.product)
    return CommandedMirror(node.product, node.inlet)


def make(seed: int = 0) -> LayerwiseFeedback:
    """Return the rule; it draws nothing, and reads commanded changes of weights.

    >>> make().due
    True
    """
    return LayerwiseFeedback(commanded_mirror, SaturationMask())


ENTRY = RuleEntry(
    "kalman",
    "mirrored credit whose maps are Kalman filters: commanded changes, corrected by pairs",
    make,
    Traits(mirrors=True, reads_weight_changes=True),
    adam_beta2=0.99,
)
