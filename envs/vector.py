"""Wrappers of vector environments that apply the same channels to all rows at once.

A vector environment of one row, reset with the same seed, gives the same bits as the single
environment over all episodes. With more rows, one generator draws for all of them. An episode that
ended is reset in the next step (`AutoresetMode.NEXT_STEP`), whose action is ignored and whose
reward is 0. If all rows reset in the same step, channels of actions and rewards draw nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from .channel import Channels, build
from .path import Path
from .types import Array, Info
from .wrappers import REWARD

Envs = VectorEnv[Any, Any, Any]
Steps = tuple[Any, Array, Array, Array, Info]

if TYPE_CHECKING:
    Wrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:  # generic since Gymnasium 1.4
    Wrapper = VectorWrapper


class Rows(Wrapper):
    """Base of the vector wrappers: keeps track of the rows that reset in the next step.

    Attributes:
        done: True for rows whose episode ended in the last step, (n,).
        fresh: True for rows whose next step is the first of an episode, (n,).

    Raises:
        ValueError: if the vector environment has another autoreset mode, or a random generator for
            each row.
    """

    def __init__(self, env: Envs) -> None:
        super().__init__(env)
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"{type(self).__name__} needs autoreset mode NEXT_STEP, not {mode}")
        if not isinstance(env.np_random, np.random.Generator):
            raise ValueError(
                f"{type(env.unwrapped).__name__} has a generator for each environment: wrap each "
                "one, gymnasium.make_vec(..., wrappers=[...])"
            )
        self.done = np.zeros(self.num_envs, dtype=np.bool_)
        self.fresh = np.ones(self.num_envs, dtype=np.bool_)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode in every row."""
        if options is not None and "reset_mask" in options:
            raise ValueError(f"{type(self).__name__} resets all rows: leave out 'reset_mask'")
        self.done, self.fresh = np.zeros_like(self.done), np.ones_like(self.fresh)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> Steps:
        """Step in every row."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        self.fresh, self.done = self.done, np.logical_or(terminated, truncated)
        return observations, rewards, terminated, truncated, infos


class VectorObserve(Rows):
    """`Observe` for vector environments.

    Args:
        env: the vector environment.
        channels: a channel, or a list of them in the order in which they act.

    >>> import gymnasium
    >>> from noisynets_envs import Gaussian, VectorObserve
    >>> envs = VectorObserve(gymnasium.make_vec("CartPole-v1", num_envs=3), Gaussian(0.1))
    >>> envs.reset(seed=0)[0].shape
    (3, 4)
    """

    def __init__(self, env: Envs, channels: Channels) -> None:
        super().__init__(env)
        self._path = Path(build(channels), env.single_observation_space)
        self.single_observation_space = self._path.space
        self.observation_space = batch_space(self._path.space, self.num_envs)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode, with new states of the channels, in every row."""
        observations, infos = super().reset(seed=seed, options=options)
        return self._path(observations, self.fresh, self.np_random), infos

    def step(self, actions: Any) -> Steps:
        """Step and pass the observations through the channels."""
        observations, rewards, terminated, truncated, infos = super().step(actions)
        changed = self._path(observations, self.fresh, self.np_random)
        return changed, rewards, terminated, truncated, infos


class VectorAct(Rows):
    """`Act` for vector environments.

    Args:
        env: the vector environment.
        channels: a channel, or a list of them in the order in which they act.
    """

    def __init__(self, env: Envs, channels: Channels) -> None:
        super().__init__(env)
        self._path = Path(build(channels), env.single_action_space, keep=True)

    def step(self, actions: Any) -> Steps:
        """Pass the actions through the channels, then step."""
        if not self.done.all():
            rows = np.asarray(actions, dtype=self.single_action_space.dtype)
            actions = self._path(rows, self.fresh, self.np_random)
        return super().step(actions)


class VectorReward(Rows):
    """`Reward` for vector environments.

    Args:
        env: the vector environment.
        channels: a channel, or a list of them in the order in which they act.
    """

    def __init__(self, env: Envs, channels: Channels) -> None:
        super().__init__(env)
        self._path = Path(build(channels), REWARD, keep=True)

    def step(self, actions: Any) -> Steps:
        """Step and pass the rewards through the channels."""
        fresh, resetting = self.fresh, self.done
        observations, rewards, terminated, truncated, infos = super().step(actions)
        changed = np.asarray(rewards, dtype=np.float64)
        if not resetting.all():
            changed = np.where(resetting, 0.0, self._path(changed, fresh, self.np_random))
        return observations, changed, terminated, truncated, infos
