"""Channels in series, and their states: the one stateful object, shared by all wrappers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Space

from .channel import Channel
from .types import Array


class Link(NamedTuple):
    """A channel in its place: the space of what enters, and the bounds of what leaves."""

    channel: Channel
    space: Space[Any]
    bounds: tuple[Array, Array] | None


class Path:
    """What n signals pass through, channel after channel.

    Args:
        channels: in the order in which they act.
        space: of one signal that enters.
        keep: what leaves must be as what enters (actions, rewards), and is clipped to its bounds;
            otherwise (observations) each channel adapts the space.

    Attributes:
        space: of one signal that leaves.

    Raises:
        ValueError: for a channel that cannot carry its space, or has to keep it and does not.
    """

    def __init__(
        self, channels: tuple[Channel, ...], space: Space[Any], *, keep: bool = False
    ) -> None:
        self.links: list[Link] = []
        for channel in channels:
            adapted = channel.space(space)
            if keep and not _alike(adapted, space):
                raise ValueError(
                    f"{type(channel).__name__} turns {space} into {adapted}: only observations "
                    "may change their kind"
                )
            leaves = space if keep else adapted
            self.links.append(
                Link(channel, space, _bounds(leaves) if keep or channel.overshoots else None)
            )
            space = leaves
        self.space = space
        self._states: list[Array] = []

    def __call__(self, x: Array, restart: Array, rng: np.random.Generator) -> Array:
        """Pass signals through all channels.

        Args:
            x: signals, (n, *shape).
            restart: rows in which an episode begins with this signal, (n,).
            rng: of the environment.

        Returns:
            What leaves, (n, ...).
        """
        every, some = bool(restart.all()), bool(restart.any())
        states, self._states = self._states or [np.empty(0)] * len(self.links), []
        for (channel, space, bounds), state in zip(self.links, states, strict=True):
            if every:
                state = channel.start(x, space, rng)
            elif some:
                state[restart] = channel.start(x[restart], space, rng)
            x, state = channel.step(x, state, space, rng)
            if bounds is not None:
                x = np.minimum(np.maximum(x, bounds[0]), bounds[1])
            self._states.append(state)
        return x


def _bounds(space: Space[Any]) -> tuple[Array, Array] | None:
    if not isinstance(space, Box) or not (space.bounded_below | space.bounded_above).any():
        return None
    return space.low, space.high


def _alike(one: Space[Any], other: Space[Any]) -> bool:
    return type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
