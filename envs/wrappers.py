"""Wrappers of single environments: channels on observations, actions and rewards.

They draw from the environment's own generator (`np_random`), so one seed decides an episode, and
they are recorded in its spec.
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
BEGINS, GOES_ON = np.array([True]), np.array([False])


class Observe(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """What the agent sees has passed through channels.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: for channels that cannot carry the observations.

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
        """Begin an episode, and the channels' states with it."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, BEGINS), info

    def step(self, action: Any) -> Step:
        """Step, and pass on what is observed."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation, GOES_ON), reward, terminated, truncated, info

    def _seen(self, observation: Any, restart: Array) -> Any:
        row = np.asarray(observation, dtype=self.env.observation_space.dtype)[None]
        return self._path(row, restart, self.np_random)[0]


class Act(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """What the environment gets has passed through channels, and stays inside its action space.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: for channels that cannot carry the actions, or change their kind.

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
        self._restart = BEGINS

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode: the channels' states begin with its first action."""
        self._restart = BEGINS
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Step:
        """Pass the action on, and step."""
        row = np.asarray(action, dtype=self.env.action_space.dtype)[None]
        taken = self._path(row, self._restart, self.np_random)[0]
        self._restart = GOES_ON
        return self.env.step(taken)


class Reward(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """The reward that is paid has passed through channels.

    Args:
        env: the environment.
        channels: a channel, or a list of them in the order in which they act.

    Raises:
        ValueError: for channels that change the kind of a number.

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
        self._restart = BEGINS

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode: the channels' states begin with its first reward."""
        self._restart = BEGINS
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Step:
        """Step, and pass the reward on."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        row = np.array([reward], dtype=np.float64)
        paid = float(self._path(row, self._restart, self.np_random)[0])
        self._restart = GOES_ON
        return observation, paid, terminated, truncated, info
