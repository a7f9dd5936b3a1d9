"""Channels: what a signal passes through between the physics and the agent.

    physics ──observation──► channel ──► channel ──► agent ──action──► channel ──► physics

A channel is a frozen dataclass of settings with pure functions on batches (n, *shape), one row per
environment. Single and vector wrappers share them, so that they cannot differ.
"""

from __future__ import annotations

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space

from .checks import title
from .types import Array, Values


class Channel(ABC):
    """One stage on a signal's way; all randomness comes from the generator it is handed.

    Attributes:
        overshoots: whether what leaves may lie outside `space` and has to be clipped to it.
    """

    overshoots: ClassVar[bool] = False

    @abstractmethod
    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space of what leaves, for one row.

        Args:
            space: of what enters, for one row.

        Raises:
            ValueError: for a space that the channel cannot carry.
        """

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the state of rows at the start of an episode, (n, ...); by default none.

        Args:
            x: the first signals of their episodes, (n, *shape).
            space: of one signal.
            rng: of the environment.
        """
        return np.empty((len(x), 0))

    @abstractmethod
    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Pass signals on.

        Args:
            x: signals, (n, *shape).
            state: of all rows, (n, ...).
            space: of one signal.
            rng: of the environment.

        Returns:
            What leaves, (n, ...), and the new state.
        """


Channels: TypeAlias = Channel | Mapping[str, Any] | Sequence[Channel | Mapping[str, Any]]
"""A channel, several in series, or what `describe` makes of them."""


def describe(channel: Channel) -> dict[str, Any]:
    """Turn a channel into plain data, for a spec and its JSON.

    >>> from noisynets_envs import Delay
    >>> describe(Delay(2))
    {'entry_point': 'noisynets_envs.delay:Delay', 'steps': 2}
    """
    kind: Any = type(channel)
    entry_point = f"{kind.__module__}:{kind.__qualname__}"
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{entry_point} must be a dataclass: its fields are what a spec keeps")
    settings = {f.name: _plain(getattr(channel, f.name)) for f in dataclasses.fields(kind)}
    return {"entry_point": entry_point, **settings}


def build(channels: object) -> tuple[Channel, ...]:
    """Return channels from what the user gave, or from what a spec kept.

    Args:
        channels: `Channels`.

    Raises:
        ValueError: for something else, an unknown channel or an unknown setting.

    >>> build({"entry_point": "noisynets_envs.delay:Delay", "stepz": 2})
    Traceback (most recent call last):
    ...
    ValueError: Delay: unknown setting 'stepz'; known: steps
    """
    if isinstance(channels, Sequence) and not isinstance(channels, str):
        return tuple(_build(channel) for channel in channels)
    return (_build(channels),)


def made(kind: type[Any], settings: Mapping[str, Any], owner: str = "") -> Any:
    """Make a dataclass from settings by name.

    Args:
        kind: the dataclass.
        settings: from names of its fields to values.
        owner: who is named in errors; the dataclass itself unless given.

    Raises:
        ValueError: for a name that is none of its settings.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{owner or kind.__name__}: unknown setting {name!r}; known: {', '.join(known)}"
            )
    try:
        return kind(**settings)
    except TypeError as error:  # one without a default is missing
        raise ValueError(f"{owner or kind.__name__}: {error}") from error


def floats(owner: object, space: Space[Any], **values: Values | None) -> Box:
    """Return the space as a box of floats for which each value has the right number of components.

    Raises:
        ValueError: for another space, or a wrong number of values.

    >>> floats("Gaussian", Discrete(4))
    Traceback (most recent call last):
    ...
    ValueError: Gaussian needs a Box of float32 or float64, not Discrete(4)
    """
    name = title(owner)
    if not isinstance(space, Box) or space.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} needs a Box of float32 or float64, not {space}")
    for setting, value in values.items():
        shape = np.asarray(value).shape
        if shape not in ((), space.shape):
            raise ValueError(
                f"{name}: {setting} of shape {shape} for signals of shape "
                f"{space.shape}: give one number, or one for each component"
            )
    return space


def arrays(owner: object, space: Space[Any]) -> Space[Any]:
    """Return the space if its elements are arrays or numbers.

    Raises:
        ValueError: for another space.
    """
    if not isinstance(space, (Box, Discrete, MultiBinary, MultiDiscrete)):
        raise ValueError(
            f"{title(owner)} needs a Box, Discrete, MultiBinary or MultiDiscrete space, "
            f"not {space}: flatten it first (gymnasium.wrappers.FlattenObservation)"
        )
    return space


def _build(channel: Any) -> Channel:
    if isinstance(channel, Channel):
        return channel
    if not isinstance(channel, Mapping) or "entry_point" not in channel:
        raise ValueError(f"{channel!r} is no channel: give one such as Gaussian(0.1)")
    module, _, name = str(channel["entry_point"]).partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"unknown channel {channel['entry_point']!r}: {error}") from error
    settings = {key: value for key, value in channel.items() if key != "entry_point"}
    return _build(made(kind, settings))


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist() if isinstance(value, (Sequence, np.ndarray)) else value
