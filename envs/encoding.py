"""Spike codes: each number is encoded by spikes over T time steps in one step of the environment.

The codes use u = (x − low)/(high − low), clipped to 0..1.
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
    """Bernoulli rate code: an independent spike with probability u in each of T time steps.

    Args:
        steps: T, time steps per observation.
        low: value that never causes spikes, one number or one for each component; None: the lower
            bound of the space.
        high: value that causes a spike in every time step, likewise; None: the upper bound.
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
        """Map signals (n, *shape) to spikes (n, T, *shape), 0 or 1."""
        u = _unit(self, x, space)[:, None]
        drawn = rng.random((len(x), self.steps, *x.shape[1:]), dtype=np.float32)
        return (drawn < u).astype(np.int8), state


@dataclass(frozen=True)
class LatencyCode(Channel):
    """Latency code: one spike per component, at time step (T − 1)(1 − u), rounded.

    Args:
        steps: T, time steps per observation.
        low: value that causes the latest spike, one number or one for each component; None: the
            lower bound of the space.
        high: value that causes the earliest spike, likewise; None: the upper bound.
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
        """Map signals (n, *shape) to spikes (n, T, *shape), 0 or 1."""
        when = np.rint((self.steps - 1) * (1 - _unit(self, x, space)))[:, None]
        clock = np.arange(self.steps).reshape(1, -1, *[1] * (x.ndim - 1))
        return (when == clock).astype(np.int8), state


def _unit(code: RateCode | LatencyCode, x: Array, space: Space[Any]) -> Array:
    """Return u, from 0 to 1."""
    low, high = span(code.low, code.high, space)
    u: Array = np.clip((x - low) / (high - low), 0, 1)
    return u
