"""What sensors and converters do to a signal: failures, and a finite number of levels."""

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
    """In every step each component fails with probability p: it reads 0, or its last report.

    Args:
        p: probability, per component and step.
        hold: report the last value instead of 0 (the first report of an episode never fails).
    """

    p: float = 0.1
    hold: bool = False

    def __post_init__(self) -> None:
        probability(self, p=self.p)

    def space(self, space: Space[Any]) -> Space[Any]:
        """Stretch a box so that it holds 0."""
        if self.hold or isinstance(space, MultiBinary):
            return arrays(self, space)
        if not isinstance(space, Box):
            raise ValueError(f"Dropout would report 0 for {space}: set hold=True")
        low, high = (
            np.asarray(f(v, 0)) for f, v in ((np.minimum, space.low), (np.maximum, space.high))
        )
        return Box(low, high, space.shape, dtype=space.dtype)

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the last report, (n, *shape)."""
        return x.copy() if self.hold else super().start(x, space, rng)

    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Let some components fail."""
        failed = rng.random(x.shape) < self.p
        if not self.hold:
            return np.where(failed, np.zeros((), x.dtype), x), state
        y = np.where(failed, state, x)
        return y, y.copy()


@dataclass(frozen=True)
class Quantiser(Channel):
    """The nearest of 2^bits levels, evenly spaced from low to high; clipped beyond them.

    Args:
        bits: of the converter.
        low: lowest level in units of the signal, one number or one per component; None: the
            space's lower bound.
        high: highest level; None: the space's upper bound.

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
        """Return the box of the levels."""
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
    """Return a range for every component: what was given, or else the bounds of the space.

    Raises:
        ValueError: for an empty or infinite range, or a space that is no box of floats.
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
    """Return the same range, unchecked."""
    assert isinstance(space, Box)
    lows = np.broadcast_to(space.low if low is None else low, space.shape)
    highs = np.broadcast_to(space.high if high is None else high, space.shape)
    return lows.astype(space.dtype), highs.astype(space.dtype)
