"""Delays, as in nerves, radio links and queues."""

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
    """y_t = x_{t−k}; before that, the first signal of the episode.

    The first action of an episode therefore acts at once and is repeated until the second one
    arrives, so that tasks need not define a neutral action.

    Args:
        steps: k, in steps of the environment.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        whole(self, least=0, steps=self.steps)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space unchanged."""
        return arrays(self, space)

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the k signals in transit, the oldest first, (n, k, *shape)."""
        return np.repeat(x[:, None], self.steps, axis=1)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Return the oldest signal in transit and append the new one."""
        if self.steps == 0:
            return x, state
        return state[:, 0], np.concatenate([state[:, 1:], x[:, None]], axis=1)
