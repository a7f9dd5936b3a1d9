"""What a network makes of observations, and what becomes of its outputs: spaces of Gymnasium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from noisynets.core.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Senses:
    """What a network sees.

    Attributes:
        shape: of what it sees in one step.
        steps: T, of observations that are spike trains, (T, n); 0: they have no time of their own.
        see: observations (R, ...) → inputs (R, *shape), or (R, T, *shape), float32.
    """

    shape: tuple[int, ...]
    steps: int
    see: Callable[[Array], Array]


@dataclass(frozen=True)
class Muscles:
    """What a network's outputs do.

    Attributes:
        outputs: number of them.
        act: outputs (R, outputs), float64 → actions (R, ...).
    """

    outputs: int
    act: Callable[[Array], Array]


def senses(space: spaces.Space[Any], owner: str) -> Senses:
    """Return what a network sees of the observations in a space.

    A bounded component of a box is scaled to −1..1, by the space's bounds; one without bounds
    stays in its own units. Numbers of discrete spaces become one 1 among zeros.

    Raises:
        InputError: for any other space.

    >>> low, high = np.array([[0, -np.inf], [4, np.inf]], dtype=np.float32)
    >>> made = senses(spaces.Box(low, high), "mine")
    >>> made.shape, made.see(np.array([[3.0, 7.0]])).tolist()
    ((2,), [[0.5, 7.0]])
    """
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        centre, size = _bounds(space)
        return Senses(space.shape, 0, lambda o: ((o - centre) / size).astype(np.float32))
    if isinstance(space, spaces.MultiBinary):
        timed = len(space.shape) == 2
        shape = space.shape[1:] if timed else space.shape
        return Senses(tuple(shape), space.shape[0] if timed else 0, lambda o: o.astype(np.float32))
    if isinstance(space, spaces.Discrete):
        n, start = int(space.n), int(space.start)
        return Senses((n,), 0, lambda o: np.eye(n, dtype=np.float32)[o - start])
    raise InputError(
        f"{owner}: observations in {_short(space)}: a network sees boxes of floats, MultiBinary "
        "and Discrete spaces: put a wrapper around the environment that gives one"
    )


def muscles(space: spaces.Space[Any], owner: str) -> Muscles:
    """Return what a network's outputs do in a space of actions.

    Discrete: the largest output wins. MultiBinary: 1 where an output is positive. Box: outputs of
    −1..1 span a component from its lower to its upper bound, and larger ones are cut off; a
    component without bounds takes the output as it is.

    Raises:
        InputError: for any other space.

    >>> muscles(spaces.Discrete(3, start=1), "mine").act(np.array([[0.1, 0.3, 0.2]])).tolist()
    [2]
    >>> muscles(spaces.Box(-2.0, 2.0, (1,)), "mine").act(np.array([[0.5], [9.0]])).tolist()
    [[1.0], [2.0]]
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Muscles(int(space.n), lambda y: y.argmax(1) + start)
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return Muscles(space.shape[0], lambda y: (y > 0).astype(space.dtype))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        centre, size = _bounds(space)

        def act(y: Array) -> Array:
            wide = centre + size * y.reshape(-1, *space.shape)
            return np.clip(wide, space.low, space.high).astype(space.dtype)

        return Muscles(int(np.prod(space.shape)), act)
    raise InputError(
        f"{owner}: actions in {_short(space)}: a network acts in Discrete, Box (of floats) and "
        "MultiBinary spaces: put a wrapper around the environment that takes one"
    )


def _bounds(space: spaces.Box) -> tuple[Array, Array]:
    """Return the centre and half the width of every bounded component; 0 and 1 of any other."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
    low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
    return low / 2 + high / 2, high / 2 - low / 2


def _short(space: spaces.Space[Any]) -> str:
    """Name a space on one short line."""
    words = " ".join(str(space).split())
    return words if len(words) < 80 else f"{words[:77]}..."
