"""Channels: stages that a signal passes through between the physics and the agent.

    physics ──observation──► channel ──► channel ──► agent ──action──► channel ──► physics

A channel is a frozen dataclass of settings with pure functions on batches (n, *shape), one row for
each environment. Single and vector wrappers use the same functions.
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
    """One stage of a signal's path; random only through the generator in its arguments.

    Attributes:
        overshoots: True if outputs can lie outside `space` and must be clipped to it.
    """

    overshoots: ClassVar[bool] = False

    @abstractmethod
    def space(self, space: Space[Any]) -> Space[Any]:
        """Return the space of one output signal.

        Args:
            space: space of one input signal.

        Raises:
            ValueError: if the channel does not support the space.
        """

    def start(self, x: Array, space: Space[Any], rng: np.random.Generator) -> Array:
        """Return the channel's state at the start of an episode, (n, ...); by default empty.

        Args:
            x: first signals of the episodes, (n, *shape).
            space: space of one input signal.
            rng: random generator of the environment.
        """
        return np.empty((len(x), 0))

    @abstractmethod
    def step(
        self, x: Array, state: Array, space: Space[Any], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """Apply the channel to one signal of every row.

        Args:
            x: input signals, (n, *shape).
            state: state of all rows, (n, ...).
            space: space of one input signal.
            rng: random generator of the environment.

        Returns:
            Output signals (n, ...) and the new state.
        """


Channels: TypeAlias = Channel | Mapping[str, Any] | Sequence[Channel | Mapping[str, Any]]
"""A channel or several in series, each as an object or as the mapping made by `describe`."""


def describe(channel: Channel) -> dict[str, Any]:
    """Return a channel as plain data that a spec can store as JSON.

    Raises:
        ValueError: if the channel is not a dataclass.

    >>> from noisynets_envs import Delay
    >>> describe(Delay(2))
    {'entry_point': 'noisynets_envs.delay:Delay', 'steps': 2}
    """
    kind: Any = type(channel)
    entry_point = f"{kind.__module__}:{kind.__qualname__}"
    if not dataclasses.is_dataclass(kind):
        raise ValueError(f"{entry_point} must be a dataclass, so that a spec can store its fields")
    settings = {f.name: _plain(getattr(channel, f.name)) for f in dataclasses.fields(kind)}
    return {"entry_point": entry_point, **settings}


def build(channels: object) -> tuple[Channel, ...]:
    """Return channels as objects.

    Args:
        channels: `Channels`, given by the user or stored in a spec.

    Raises:
        ValueError: if the argument is of another kind, or a channel or setting is unknown.

    >>> build({"entry_point": "noisynets_envs.delay:Delay", "stepz": 2})
    Traceback (most recent call last):
    ...
    ValueError: Delay: unknown setting 'stepz'; known: steps
    """
    if isinstance(channels, Sequence) and not isinstance(channels, str):
        return tuple(_build(channel) for channel in channels)
    return (_build(channels),)


def made(kind: type[Any], settings: Mapping[str, Any], owner: str = "") -> Any:
    """Make an instance of a dataclass from settings by name.

    Args:
        kind: the dataclass.
        settings: values by field name.
        owner: name in error messages; by default that of the dataclass.

    Raises:
        ValueError: if a setting is unknown, or one without a default is missing.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{owner or kind.__name__}: unknown setting {name!r}; known: {', '.join(known)}"
            )
    try:
        return kind(**settings)
    except TypeError as error:  # a setting without a default is missing
        raise ValueError(f"{owner or kind.__name__}: {error}") from error


def floats(owner: object, space: Space[Any], **values: Values | None) -> Box:
    """Check that a space is a box of floats and that settings have the shape of its components.

    Args:
        owner: the channel, or its name for error messages.
        space: the space.
        **values: settings by name, each one number or one for each component.

    Returns:
        The space.

    Raises:
        ValueError: if the space is of another kind, or a setting has another shape.

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
    """Check that the elements of a space are arrays or numbers.

    Args:
        owner: the channel, or its name for error messages.
        space: the space.

    Returns:
        The space.

    Raises:
        ValueError: if it is of another kind.
    """
    if not isinstance(space, (Box, Discrete, MultiBinary, MultiDiscrete)):
        raise ValueError(
            f"{title(owner)} needs a Box, Discrete, MultiBinary or MultiDiscrete space, "
            f"not {space}: flatten it first (gymnasium.wrappers.FlattenObservation)"
        )
    return space


def _build(channel: Any) -> Channel:
    """Return one channel as an object."""
    if isinstance(channel, Channel):
        return channel
    if not isinstance(channel, Mapping) or "entry_point" not in channel:
        raise ValueError(f"{channel!r} is not a channel: give one such as Gaussian(0.1)")
    module, _, name = str(channel["entry_point"]).partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"unknown channel {channel['entry_point']!r}: {error}") from error
    settings = {key: value for key, value in channel.items() if key != "entry_point"}
    return _build(made(kind, settings))


def _plain(value: Any) -> Any:
    """Return a setting as a value that JSON can store."""
    return np.asarray(value).tolist() if isinstance(value, (Sequence, np.ndarray)) else value
