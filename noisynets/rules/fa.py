"""FA, feedback alignment: fixed random maps from node to node. A control."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from noisynets.core.noise import generator
from noisynets.core.outer import gain_shape, is_norm
from noisynets.core.types import Node
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.norm_mirror import credit_of
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
    lag: Tensor | None = None

    def __init__(self, layer: nn.Module, name: str, seed: int = 0) -> None:
        self.layer = layer
        self._seed, self._purpose = seed, f"feedback weights of {name}"
        self._map: Tensor | None = None

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn nothing; draw the map at the first call, as He et al. (2015) draw weights."""
        if self._map is None:
            x, a = shown(self.layer, shift.flatten(0, 1), made.flatten(0, 1), 1, 0)
            drawn_by = generator(self._seed, self._purpose)
            inputs = x.shape[-1]
            drawn = torch.randn(*x.shape[:-2], a.shape[-1], inputs, generator=drawn_by)
            self._map = (drawn * (2 / inputs) ** 0.5).to(x)

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """Bᵀ credit: of the activities (B, *out) → of the inputs x (B, *in)."""
        assert self._map is not None, "drawn at the first update"
        return adjoint(self.layer, self._map, credit, x.shape)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return zeros: (K, B, *in) → (K, B, *out)."""
        assert self._map is not None, "drawn at the first update"
        made = torch.zeros_like(forward(self.layer, self._map, shift.flatten(0, 1)))
        return made.unflatten(0, shift.shape[:2])

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


class UnitGain:
    """The adjoint of a normalisation with a gain of 1, with which training usually begins.

    Args:
        layer: a normalisation; gives the geometry.
    """

    learns = False
    lag: Tensor | None = None

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn nothing."""

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """J(x)ᵀ credit: of the activities (B, *out) → of the inputs x (B, *in)."""
        return credit_of(self.layer, credit.new_ones(gain_shape(self.layer, x.dim())), credit, x)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return zeros: (K, B, *in) → (K, B, *out)."""
        return torch.zeros_like(shift)

    @property
    def map(self) -> Tensor | None:
        """None: there is nothing to keep."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return a mark, by which the map is made again with the node."""
        return {"gain": torch.ones(())}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Do nothing."""


def random_map_of(node: Node, seed: int) -> Map:
    """Return the map of a node: random, or the adjoint of a normalisation."""
    if is_norm(node.product):
        return UnitGain(node.product)
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
