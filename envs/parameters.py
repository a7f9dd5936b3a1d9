"""Parameter randomisation: another body in every episode."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.utils import RecordConstructorArgs

from .physics import PhysicsEnv, PhysicsVectorEnv
from .types import Array, Info
from .vector import Envs, Rows, Steps
from .wrappers import Env

Ranges = Mapping[str, Sequence[float]]


@singledispatch
def names(env: object) -> list[str]:
    """Return which parameters an environment has: its public attributes that are floats."""
    found = {name: inspect.getattr_static(env, name) for name in dir(env) if name[0] != "_"}
    return [name for name, value in found.items() if isinstance(value, float)]


@names.register
def _(env: CartPoleEnv | CartPoleVectorEnv) -> list[str]:
    return ["gravity", "masscart", "masspole", "length", "force_mag"]


@names.register
def _(env: PhysicsEnv | PhysicsVectorEnv) -> list[str]:
    return [field.name for field in dataclasses.fields(env.physics)]


@singledispatch
def change(env: Any, values: Mapping[str, float | Array]) -> None:
    """Set parameters, and what is derived from them; of a vector environment, one per row."""
    for name, value in values.items():
        setattr(env, name, value)


@change.register
def _(env: CartPoleEnv | CartPoleVectorEnv, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(env, name, value)
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


@change.register
def _(env: PhysicsEnv | PhysicsVectorEnv, values: Mapping[str, Any]) -> None:
    env.physics = dataclasses.replace(env.physics, **values)


class RandomParameters(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Physical parameters, drawn at every reset, before the state is.

    Each is uniform in its range, and nothing tells the agent. A reset with a seed resets twice:
    once to seed the generator, once with the new parameters.

    Args:
        env: the environment.
        ranges: from the name of a parameter (`noisynets_envs.parameters.names(env.unwrapped)`) to
            its lowest and highest value, in its own units.

    Raises:
        ValueError: for an unknown name or an empty range, and for a parameter that would change
            the observation space.

    >>> env = RandomParameters(gym.make("CartPole-v1"), {"length": (0.4, 0.6)})
    >>> _ = env.reset(seed=0)
    >>> round(env.unwrapped.length, 3)
    0.563
    """

    def __init__(self, env: Env, ranges: Ranges) -> None:
        self._ranges = checked(env.unwrapped, ranges)
        kept = {name: list(pair) for name, pair in self._ranges.items()}
        RecordConstructorArgs.__init__(self, ranges=kept)
        super().__init__(env)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Draw parameters, and begin an episode."""
        if seed is not None:
            self.env.reset(seed=seed, options=options)
        drawn = {name: self.np_random.uniform(*pair) for name, pair in self._ranges.items()}
        change(self.unwrapped, drawn)
        return self.env.reset(options=options)


class VectorRandomParameters(Rows):
    """As `RandomParameters`, with parameters of its own for every row.

    Args:
        env: the vector environment: CartPole's, or one of this package.
        ranges: from the name of a parameter to its lowest and highest value.
    """

    def __init__(self, env: Envs, ranges: Ranges) -> None:
        super().__init__(env)
        self._ranges = checked(env.unwrapped, ranges)
        self._drawn: dict[str, Array] = {}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Draw parameters, and begin an episode, in every row."""
        if seed is not None:
            super().reset(seed=seed, options=options)
        every = np.ones(self.num_envs, dtype=np.bool_)
        self._drawn = {name: np.zeros(self.num_envs) for name in self._ranges}
        self._draw(every)
        return super().reset(options=options)

    def step(self, actions: Any) -> Steps:
        """Draw the parameters of the rows that reset, and step."""
        if self.done.any():
            self._draw(self.done)
        return super().step(actions)

    def _draw(self, rows: Array) -> None:
        for name, pair in self._ranges.items():
            fresh = self._drawn[name].copy()
            fresh[rows] = self.np_random.uniform(*pair, size=int(rows.sum()))
            self._drawn[name] = fresh
        change(self.unwrapped, self._drawn)


def checked(env: Any, ranges: Ranges) -> dict[str, tuple[float, float]]:
    """Return the ranges as pairs of floats.

    Raises:
        ValueError: for an unknown name, or something that is no range.
    """
    known, owner = names(env), type(env).__name__
    pairs = {}
    for name, pair in ranges.items():
        if name not in known:
            raise ValueError(
                f"unknown parameter {name!r} of {owner}; known: {', '.join(known) or 'none'}"
            )
        bounds = np.asarray(pair, dtype=np.float64)
        if bounds.shape != (2,) or not np.isfinite(bounds).all() or bounds[0] > bounds[1]:
            raise ValueError(f"range {pair} of {name}: give its lowest and highest value")
        pairs[name] = (float(bounds[0]), float(bounds[1]))
    if isinstance(env, (PhysicsEnv, PhysicsVectorEnv)):
        _same_space(env, pairs)
    return pairs


def _same_space(env: PhysicsEnv | PhysicsVectorEnv, pairs: dict[str, tuple[float, float]]) -> None:
    for name, pair in pairs.items():
        for value in pair:
            other = dataclasses.replace(env.physics, **{name: value})
            if other.observation_space != env.physics.observation_space:
                raise ValueError(f"{name} sets the observation space: it cannot be redrawn")
