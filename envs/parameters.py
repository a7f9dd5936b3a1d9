"""Randomisation of physical parameters: new values in every episode."""

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
    """Return the names of an environment's parameters: its public attributes that are floats."""
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
    """Set parameters and the quantities derived from them.

    Args:
        env: the environment, without wrappers.
        values: values by name; for a vector environment, one value for each row, (n,).
    """
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
    """Draws physical parameters at every reset, before the environment draws its state.

    Each parameter is uniform in its range; the agent does not observe it. A reset with a seed
    resets the environment twice: once to seed its generator, once with the new parameters.

    Args:
        env: the environment.
        ranges: lowest and highest value of each parameter, by its name, in its own units;
            `noisynets_envs.parameters.names(env.unwrapped)` lists the names.

    Raises:
        ValueError: if a name is unknown, a range is empty, or a parameter would change the
            observation space.

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
        """Draw parameters and start an episode."""
        if seed is not None:
            self.env.reset(seed=seed, options=options)
        drawn = {name: self.np_random.uniform(*pair) for name, pair in self._ranges.items()}
        change(self.unwrapped, drawn)
        return self.env.reset(options=options)


class VectorRandomParameters(Rows):
    """`RandomParameters` for vector environments, with different values in every row.

    Args:
        env: the vector environment: CartPole's, or one of this package.
        ranges: lowest and highest value of each parameter, by its name.
    """

    def __init__(self, env: Envs, ranges: Ranges) -> None:
        super().__init__(env)
        self._ranges = checked(env.unwrapped, ranges)
        self._drawn: dict[str, Array] = {}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Draw parameters and start an episode in every row."""
        if seed is not None:
            super().reset(seed=seed, options=options)
        every = np.ones(self.num_envs, dtype=np.bool_)
        self._drawn = {name: np.zeros(self.num_envs) for name in self._ranges}
        self._draw(every)
        return super().reset(options=options)

    def step(self, actions: Any) -> Steps:
        """Draw the parameters of the rows that reset, then step."""
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

    Args:
        env: the environment, without wrappers.
        ranges: lowest and highest value of each parameter, by its name.

    Raises:
        ValueError: if a name is unknown, a range is not a range, or a parameter would change the
            observation space.
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
    """Check that no parameter changes the observation space within its range."""
    for name, pair in pairs.items():
        for value in pair:
            other = dataclasses.replace(env.physics, **{name: value})
            if other.observation_space != env.physics.observation_space:
                raise ValueError(
                    f"{name} sets the observation space: it cannot be randomised, leave it out"
                )
