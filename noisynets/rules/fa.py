"""FA, feedback alignment: fixed random maps from node to node. A control."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from noisynets.core.noise import generator
from noisynets.core.types import Node
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.products import adjoint, forward, shown
from noisynets.rules.rule import RuleEntry, Traits


class RandomLayerMap:
    """A fixed random map in place of a mirror.

    Source: feedback alignment, Lillicrap et al. (2016).

    Args:
        layer: gives the geometry.
        name: of the node; the map depends on it and on `seed`.
        seed: of the map.
    """

    learns = False

    def __init__(self, layer: nn.Module, name: str, seed: int = 0) -> None:
        self.layer = layer
        self._seed, self._purpose = seed, f"feedback weights of {name}"
        self._map: Tensor | None = None

    def update_(self, inputs: Tensor, outputs: Tensor) -> None:
        """Learn nothing; draw the map at the first call, as He et al. (2015) draw weights."""
        if self._map is None:
            x, a = shown(self.layer, inputs, outputs, 1, 0)
            drawn_by = generator(self._seed, self._purpose)
            drawn = torch.randn(a.shape[1], x.shape[1], generator=drawn_by)
            self._map = (drawn * (2 / x.shape[1]) ** 0.5).to(x)

    def __call__(self, credit: Tensor, shape: torch.Size) -> Tensor:
        """Bᵀ credit: of the activities (B, *out) → of the inputs (B, *in)."""
        assert self._map is not None, "drawn at the first update"
        return adjoint(self.layer, self._map, credit, shape)

    def predict(self, inputs: Tensor) -> Tensor:
        """Return zeros: (N, *in) → (N, *out)."""
        assert self._map is not None, "drawn at the first update"
        return torch.zeros_like(forward(self.layer, self._map, inputs))

    @property
    def map(self) -> Tensor | None:
        """The map, (out, in of one product); None before the first update."""
        return self._map

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return {} if self._map is None else {"map": self._map}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._map = state["map"].to(device) if state else None


def random_map_of(node: Node, seed: int) -> RandomLayerMap:
    """Return the map of a node."""
    return RandomLayerMap(node.product, node.name, seed)


def make(seed: int = 0) -> LayerwiseFeedback:
    """Return the rule with the random maps of a seed."""
    return LayerwiseFeedback(partial(random_map_of, seed=seed))


ENTRY = RuleEntry(
    "fa",
    "feedback alignment: random feedback layer by layer (control)",
    make,
    Traits(random_feedback=True, control=True),
    adam_beta2=0.99,
)
