"""`Path`: channels in series with their states; the only stateful object, used by all wrappers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Space

from .channel import Channel
from .types import Array


class Link(NamedTuple):
    """A channel in a path, with the space of its input and the bounds of its output.

    Attributes:
        channel: the channel.
        space: space of one input signal.
        bounds: lowest and highest output, to which outputs are clipped; None: no clipping.
    """

    channel: Channel
    space: Space[Any]
    bounds: tuple[Array, Array] | None


class Path:
    """A series of channels, applied to n signals at once.

    Args:
        channels: channels, in the order in which they act.
        space: space of one input signal.
        keep: True for actions and rewards: outputs must have the kind and shape of the inputs and
            are clipped to their bounds. False for observations: every channel defines the space of
            its outputs.

    Attributes:
        space: space of one output signal.

    Raises:
        ValueError: if a channel does not support its input space, or changes it although `keep` is
            set.
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
                    "may change their kind, not actions or rewards"
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
            x: input signals, (n, *shape).
            restart: True for rows in which this is the first signal of an episode, (n,).
            rng: random generator of the environment.

        Returns:
            Output signals, (n, ...).
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
    """Return lower and upper bounds of a box; None if it has none, or for another space."""
    if not isinstance(space, Box) or not (space.bounded_below | space.bounded_above).any():
        return None
    return space.low, space.high


def _alike(one: Space[Any], other: Space[Any]) -> bool:
    """Return True if two spaces have the same kind, shape and dtype."""
    return type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
