"""Kalman mirrors: mirrored credit whose maps follow commands, and correct what was made of them."""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.core.outer import is_norm
from noisynets.core.types import Node, Wrapper
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.kalman_mirror import KalmanMirror
from noisynets.rules.credit.saturation import SaturationMask
from noisynets.rules.kolen_pollack import FollowingMirror
from noisynets.rules.rule import RuleEntry, Traits


class CommandedMirror(FollowingMirror):
    """A Kalman mirror that takes over every change that was commanded of its layer's weights.

    Where weights are written by pulses, ΔW is what the pulses were to write: no device is read.
    Elsewhere it is the change of the layer's weights, as of `kolen-pollack`.

    Args:
        layer: gives the geometry, and the changes of its `weight`.
        inlet: the layer itself, or the wrapper around it, which may know what was commanded.
        rows: used in one update, at most.
    """

    def __init__(self, layer: nn.Module, inlet: nn.Module | None = None, rows: int = 128) -> None:
        super().__init__(layer, rows, KalmanMirror(layer, rows))
        self.inlet = layer if inlet is None else inlet

    def followed(self) -> Tensor:
        """Return the weights as they were commanded."""
        commanded = self.inlet.commanded if isinstance(self.inlet, Wrapper) else None
        return super().followed() if commanded is None else commanded


def commanded_mirror(node: Node) -> FollowingMirror:
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
