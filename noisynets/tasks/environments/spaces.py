"""Adapters between Gymnasium's spaces and a network's inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from noisynets.core.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class ObservationAdapter:
    """Converts observations to network inputs.

    Attributes:
        shape: shape of the network's input in one step of the environment.
        steps: T, for observations that are spike trains (T, n); 0: without a time axis.
        convert: observations (R, ...) → inputs (R, *shape) or (R, T, *shape), float32.
    """

    shape: tuple[int, ...]
    steps: int
    convert: Callable[[Array], Array]


@dataclass(frozen=True)
class ActionAdapter:
    """Converts network outputs to actions.

    Attributes:
        outputs: number of network outputs.
        convert: outputs (R, outputs), float64 → actions (R, ...).
    """

    outputs: int
    convert: Callable[[Array], Array]


def observation_adapter(space: spaces.Space[Any], owner: str) -> ObservationAdapter:
    """Return the adapter for a space of observations.

    Box: every bounded component is scaled from its bounds to −1..1; components without bounds are
    passed on unchanged. Discrete: one-hot vectors. MultiBinary: unchanged.

    Args:
        space: space of one observation.
        owner: name of the environment, for error messages.

    Raises:
        InputError: if the space is of another kind.

    >>> low, high = np.array([[0, -np.inf], [4, np.inf]], dtype=np.float32)
    >>> made = observation_adapter(spaces.Box(low, high), "mine")
    >>> made.shape, made.convert(np.array([[3.0, 7.0]])).tolist()
    ((2,), [[0.5, 7.0]])
    """
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        centre, size = _bounds(space)
        return ObservationAdapter(space.shape, 0, partial(_scaled, centre=centre, size=size))
    if isinstance(space, spaces.MultiBinary):
        timed = len(space.shape) == 2
        shape = space.shape[1:] if timed else space.shape
        steps = space.shape[0] if timed else 0
        return ObservationAdapter(tuple(shape), steps, _floats)
    if isinstance(space, spaces.Discrete):
        n, start = int(space.n), int(space.start)
        return ObservationAdapter((n,), 0, partial(_one_hot, n=n, start=start))
    raise InputError(
        f"{owner}: observations in {_short(space)} are not supported: wrap the environment so that "
        "they are in a Box of floats, a MultiBinary or a Discrete space"
    )


def action_adapter(space: spaces.Space[Any], owner: str) -> ActionAdapter:
    """Return the adapter for a space of actions.

    Discrete: the index of the largest output. MultiBinary: 1 where an output is positive. Box:
    outputs from −1 to 1 are mapped to the range between a component's bounds and larger ones are
    clipped; for a component without bounds the output is the action.

    Args:
        space: space of one action.
        owner: name of the environment, for error messages.

    Raises:
        InputError: if the space is of another kind.

    >>> discrete = action_adapter(spaces.Discrete(3, start=1), "mine")
    >>> discrete.convert(np.array([[0.1, 0.3, 0.2]])).tolist()
    [2]
    >>> box = action_adapter(spaces.Box(-2.0, 2.0, (1,)), "mine")
    >>> box.convert(np.array([[0.5], [9.0]])).tolist()
    [[1.0], [2.0]]
    """
    if isinstance(space, spaces.Discrete):
        return ActionAdapter(int(space.n), partial(_largest, start=int(space.start)))
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return ActionAdapter(space.shape[0], partial(_positive, dtype=space.dtype))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return ActionAdapter(int(np.prod(space.shape)), partial(_within, space=space))
    raise InputError(
        f"{owner}: actions in {_short(space)} are not supported: wrap the environment so that they "
        "are in a Discrete space, a Box of floats or a MultiBinary space"
    )


def _scaled(o: Array, centre: Array, size: Array) -> Array:
    return ((o - centre) / size).astype(np.float32)


def _floats(o: Array) -> Array:
    return o.astype(np.float32)


def _one_hot(o: Array, n: int, start: int) -> Array:
    return np.eye(n, dtype=np.float32)[o - start]


def _largest(y: Array, start: int) -> Array:
    return y.argmax(1) + start


def _positive(y: Array, dtype: Any) -> Array:
    return (y > 0).astype(dtype)


def _within(y: Array, space: spaces.Box) -> Array:
    centre, size = _bounds(space)
    scaled = centre + size * y.reshape(-1, *space.shape)
    return np.clip(scaled, space.low, space.high).astype(space.dtype)


def _bounds(space: spaces.Box) -> tuple[Array, Array]:
    """Return centre and half width of every bounded component; 0 and 1 for the others."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
    low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
    return low / 2 + high / 2, high / 2 - low / 2


def _short(space: spaces.Space[Any]) -> str:
    """Return a description of a space on one line of at most 80 characters."""
    words = " ".join(str(space).split())
    return words if len(words) < 80 else f"{words[:77]}..."
