"""Spike codes: a number becomes spikes over T steps of time within one step of the environment.

The range from low to high is scaled to u = (x − low)/(high − low), clipped to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import MultiBinary, Space

from .channel import Channel, floats
from .checks import whole
from .sensor import limits, span
from .types import Array, Values


@dataclass(frozen=True)
class RateCode(Channel):
    """A spike in each of T time steps with probability u, independently: a Bernoulli rate code.

    Args:
        steps: T, time steps per observation.
        low: value that never fires, one number or one per component; None: the space's lower
            bound.
        high: value that fires in every step; None: the space's upper bound.
    """

    steps: int = 8
    low: Values | None = None
    high: Values | None = None

    def __post_init__(self) -> None:
        whole(self, least=1, steps=self.steps)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space of spikes, (T, *shape)."""
        limits(self, self.low, self.high, space)
        return MultiBinary((self.steps, *floats(self, space).shape))

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """(n, *shape) → (n, T, *shape), 0 or 1."""
        u = _unit(self, x, space)[:, None]
        drawn = rng.random((len(x), self.steps, *x.shape[1:]), dtype=np.float32)
        return (drawn < u).astype(np.int8), state


@dataclass(frozen=True)
class LatencyCode(Channel):
    """One spike per component, the earlier the larger the value: at step (T − 1)(1 − u), rounded.

    Args:
        steps: T, time steps per observation.
        low: value that fires last, one number or one per component; None: the space's lower bound.
        high: value that fires first; None: the space's upper bound.
    """

    steps: int = 8
    low: Values | None = None
    high: Values | None = None

    def __post_init__(self) -> None:
        whole(self, least=1, steps=self.steps)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space of spikes, (T, *shape)."""
        limits(self, self.low, self.high, space)
        return MultiBinary((self.steps, *floats(self, space).shape))

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """(n, *shape) → (n, T, *shape), 0 or 1."""
        when = np.rint((self.steps - 1) * (1 - _unit(self, x, space)))[:, None]
        clock = np.arange(self.steps).reshape(1, -1, *[1] * (x.ndim - 1))
        return (when == clock).astype(np.int8), state


def _unit(code: RateCode | LatencyCode, x: Array, space: Space[Any]) -> Array:
    low, high = span(code.low, code.high, space)
    u: Array = np.clip((x - low) / (high - low), 0, 1)
    return u
