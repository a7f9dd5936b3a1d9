"""Sensors and converters: failures of components, and quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiBinary, Space

from .channel import Channel, arrays, floats
from .checks import probability, title, whole
from .types import Array, Values


@dataclass(frozen=True)
class Dropout(Channel):
    """Each component fails with probability p in each step; its value is then 0 or its last one.

    Args:
        p: probability of failure, for each component and step.
        hold: True: a failing component keeps its last value, and the first signal of an episode
            does not fail. False: it has the value 0.
    """

    p: float = 0.1
    hold: bool = False

    def __post_init__(self) -> None:
        probability(self, p=self.p)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space, a box extended if necessary to contain 0."""
        if self.hold or isinstance(space, MultiBinary):
            return arrays(self, space)
        if not isinstance(space, Box):
            raise ValueError(
                f"Dropout would replace signals in {space} by 0, which may lie outside: "
                "set hold=True"
            )
        low, high = (
            np.asarray(f(v, 0)) for f, v in ((np.minimum, space.low), (np.maximum, space.high))
        )
        return Box(low, high, space.shape, dtype=space.dtype)

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the last signal, (n, *shape), which is needed with `hold` only."""
        return x.copy() if self.hold else super().start(x, space, rng)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Replace the components that fail."""
        failed = rng.random(x.shape) < self.p
        if not self.hold:
            return np.where(failed, np.zeros((), x.dtype), x), state
        y = np.where(failed, state, x)
        return y, y.copy()


@dataclass(frozen=True)
class Quantiser(Channel):
    """Rounds to the nearest of 2^bits levels, evenly spaced from low to high, and clips to them.

    Args:
        bits: number of bits of the converter.
        low: lowest level in units of the signal, one number or one for each component; None: the
            lower bound of the space.
        high: highest level, likewise; None: the upper bound of the space.

    >>> four = Quantiser(bits=2, low=0.0, high=3.0)
    >>> four.step(np.array([[-1.0, 1.2, 2.6]]), np.empty(0), Box(-9, 9, (3,)), None)[0]
    array([[0., 1., 3.]])
    """

    bits: int = 4
    low: Values | None = None
    high: Values | None = None

    def __post_init__(self) -> None:
        whole(self, least=1, bits=self.bits)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the box from the lowest to the highest level."""
        low, high = limits(self, self.low, self.high, space)
        return Box(low, high, dtype=low.dtype.type)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Round to the nearest level."""
        low, high = span(self.low, self.high, space)
        unit = (high - low) / x.dtype.type(2**self.bits - 1)
        level = np.rint((np.clip(x, low, high) - low) / unit)
        return np.clip(low + level * unit, low, high).astype(x.dtype), state


def limits(
    owner: object, low: Values | None, high: Values | None, space: Space[Any]
) -> tuple[Array, Array]:
    """Return a finite range for every component.

    Args:
        owner: the channel, or its name for error messages.
        low: lower end, one number or one for each component; None: the lower bound of the space.
        high: upper end, likewise; None: the upper bound of the space.
        space: space of one signal.

    Returns:
        Lower and upper ends, each of the shape of a signal.

    Raises:
        ValueError: if a range is empty or infinite, or the space is not a box of floats.
    """
    box = floats(owner, space, low=low, high=high)
    lows, highs = span(low, high, box)
    name = title(owner)
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ValueError(f"{name}: the range {lows} to {highs} is not finite: give low and high")
    if not (lows < highs).all():
        raise ValueError(f"{name}: low {lows} must lie below high {highs}")
    return lows, highs


def span(low: Values | None, high: Values | None, space: Space[Any]) -> tuple[Array, Array]:
    """Return the range of `limits` without its checks."""
    assert isinstance(space, Box)
    lows = np.broadcast_to(space.low if low is None else low, space.shape)
    highs = np.broadcast_to(space.high if high is None else high, space.shape)
    return lows.astype(space.dtype), highs.astype(space.dtype)
