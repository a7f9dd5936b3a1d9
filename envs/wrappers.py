"""Wrappers of single environments that apply channels to observations, actions and rewards.

They draw from the environment's random generator (`np_random`), so that one seed determines an
episode, and they are recorded in the environment's spec.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs

from .channel import Channels, build, describe
from .path import Path
from .types import Array, Info

Env = gym.Env[Any, Any]
Step = tuple[Any, SupportsFloat, bool, bool, Info]

REWARD = Box(-np.inf, np.inf, (), np.float64)
FIRST, LATER = np.array([True]), np.array([False])
"""Argument `restart` of a path: for the first signal of an episode, and for later ones."""


class Observe(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Passes observations through channels before the agent gets them.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: if a channel does not support the observation space.

    >>> from noisynets_envs import Gaussian, Observe, Quantiser
    >>> env = Observe(gym.make("Pendulum-v1"), [Gaussian(0.1), Quantiser(bits=4)])
    >>> env.reset(seed=0)[0].shape
    (3,)
    """

    def __init__(self, env: Env, channels: Channels) -> None:
        built = build(channels)
        RecordConstructorArgs.__init__(self, channels=[describe(channel) for channel in built])
        super().__init__(env)
        self._path = Path(built, env.observation_space)
        self.observation_space = self._path.space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode, with new states of the channels."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._transmit(observation, FIRST), info

    def step(self, action: Any) -> Step:
        """Step and pass the observation through the channels."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._transmit(observation, LATER), reward, terminated, truncated, info

    def _transmit(self, observation: Any, restart: Array) -> Any:
        row = np.asarray(observation, dtype=self.env.observation_space.dtype)[None]
        return self._path(row, restart, self.np_random)[0]


class Act(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Passes actions through channels and clips them to the environment's action space.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: if a channel does not support the action space, or changes its kind.

    >>> from noisynets_envs import Act, Delay, RandomAction
    >>> env = Act(gym.make("CartPole-v1"), [RandomAction(p=0.05), Delay(2)])
    >>> env.action_space
    Discrete(2)
    """

    def __init__(self, env: Env, channels: Channels) -> None:
        built = build(channels)
        RecordConstructorArgs.__init__(self, channels=[describe(channel) for channel in built])
        super().__init__(env)
        self._path = Path(built, env.action_space, keep=True)
        self._restart = FIRST

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode; its first action starts the channels' states."""
        self._restart = FIRST
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Step:
        """Pass the action through the channels, then step."""
        row = np.asarray(action, dtype=self.env.action_space.dtype)[None]
        taken = self._path(row, self._restart, self.np_random)[0]
        self._restart = LATER
        return self.env.step(taken)


class Reward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Passes rewards through channels before the agent gets them.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: if a channel does not map numbers to numbers.

    >>> from noisynets_envs import Gaussian, Reward
    >>> env = Reward(gym.make("CartPole-v1"), Gaussian(0.5))
    >>> _ = env.reset(seed=0)
    >>> round(env.step(0)[1], 3)
    0.732
    """

    def __init__(self, env: Env, channels: Channels) -> None:
        built = build(channels)
        RecordConstructorArgs.__init__(self, channels=[describe(channel) for channel in built])
        super().__init__(env)
        self._path = Path(built, REWARD, keep=True)
        self._restart = FIRST

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode; its first reward starts the channels' states."""
        self._restart = FIRST
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Step:
        """Step and pass the reward through the channels."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        row = np.array([reward], dtype=np.float64)
        changed = float(self._path(row, self._restart, self.np_random)[0])
        self._restart = LATER
        return observation, changed, terminated, truncated, info
