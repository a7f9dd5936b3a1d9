"""Delays: nerves, radio links, queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from .channel import Channel, arrays
from .checks import whole
from .types import Array


@dataclass(frozen=True)
class Delay(Channel):
    """y_t = x_{t−k}; the first signal of an episode stands in for what would come before it.

    An action's first command therefore acts at once, and is held until the second arrives: no
    task has to say what doing nothing is.

    Args:
        steps: k, in steps of the environment.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        whole(self, least=0, steps=self.steps)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Leave the space as it is."""
        return arrays(self, space)

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the k signals under way, the oldest first, (n, k, *shape)."""
        return np.repeat(x[:, None], self.steps, axis=1)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Send x off and let the oldest arrive."""
        if self.steps == 0:
            return x, state
        return state[:, 0], np.concatenate([state[:, 1:], x[:, None]], axis=1)
