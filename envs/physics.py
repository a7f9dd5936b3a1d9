"""Physics: equations of motion for batches of states, and environments made from them.

States are arrays (..., n) with the rows on the last axis, so that a parameter can be one number or
one for each row. Actions and observations have the rows on the first axis, (n, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Space
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .checks import whole
from .types import Array, Info

Derivative = Callable[[Array], Array]


@dataclass(frozen=True)
class Physics(ABC):
    """Base of physical systems: a frozen dataclass of parameters, with functions of a state."""

    @property
    @abstractmethod
    def action_space(self) -> Space[Any]:
        """Space of one action."""

    @property
    @abstractmethod
    def observation_space(self) -> Space[Any]:
        """Space of one observation."""

    @abstractmethod
    def start(self, n: int, rng: np.random.Generator) -> Array:
        """Draw states (..., n) at the start of an episode."""

    @abstractmethod
    def step(
        self, state: Array, actions: Array, rng: np.random.Generator
    ) -> tuple[Array, Array, Array]:
        """Advance by one step.

        Args:
            state: (..., n).
            actions: (n, ...).
            rng: random generator of the environment.

        Returns:
            New state (..., n), rewards (n,), and True for rows whose episode has ended, (n,).
        """

    @abstractmethod
    def observe(self, state: Array) -> Array:
        """Return observations (n, ...) of states (..., n)."""

    def draw(self, state: Array) -> Array:
        """Return an image (height, width, 3), uint8, of one state, (..., 1)."""
        raise NotImplementedError(f"{type(self).__name__} cannot be drawn")


class PhysicsEnv(gym.Env[Any, Any]):
    """A single environment: a batch of one row.

    Args:
        physics: equations of motion with their parameters.
        render_mode: None, or "rgb_array".
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 50}

    def __init__(self, physics: Physics, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode {render_mode!r} must be None or 'rgb_array'")
        self.physics, self.render_mode = physics, render_mode
        self.action_space, self.observation_space = physics.action_space, physics.observation_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode."""
        super().reset(seed=seed)
        self._state = self.physics.start(1, self.np_random)
        return self.physics.observe(self._state)[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        """Advance by one step; episodes are truncated only by a time-limit wrapper."""
        actions = np.asarray(action)[None]
        self._state, reward, terminated = self.physics.step(self._state, actions, self.np_random)
        seen = self.physics.observe(self._state)[0]
        return seen, float(reward[0]), bool(terminated[0]), False, {}

    def render(self) -> Any:
        """Return an image if the render mode is "rgb_array", otherwise None."""
        return self.physics.draw(self._state) if self.render_mode else None


class PhysicsVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector environment of n rows.

    Args:
        physics: equations of motion with their parameters.
        num_envs: n.
        max_episode_steps: number of steps after which an episode is truncated; None: no limit.
    """

    metadata: dict[str, Any] = {
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self, physics: Physics, num_envs: int = 1, max_episode_steps: int | None = None
    ) -> None:
        whole(self, least=1, num_envs=num_envs)
        if max_episode_steps is not None:
            whole(self, least=1, max_episode_steps=max_episode_steps)
        self.physics, self.num_envs = physics, num_envs
        self.max_episode_steps = np.inf if max_episode_steps is None else max_episode_steps
        self.single_action_space = physics.action_space
        self.single_observation_space = physics.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Start an episode in every row."""
        super().reset(seed=seed)
        self._state = self.physics.start(self.num_envs, self.np_random)
        self._steps = np.zeros(self.num_envs, dtype=np.int64)
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        return self.physics.observe(self._state), {}

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, Info]:
        """Advance by one step; rows whose episode has ended start a new episode instead."""
        done, rng = self._done, self.np_random
        reward, terminated = np.zeros(self.num_envs), np.zeros_like(done)
        if not done.all():
            self._state, reward, terminated = self.physics.step(
                self._state, np.asarray(actions), rng
            )
        if done.any():
            # drawn for all rows, because a parameter can have one value for each row
            fresh = self.physics.start(self.num_envs, rng)
            self._state = np.where(done, fresh, self._state)
        self._steps = np.where(done, 0, self._steps + 1)
        terminated, truncated = terminated & ~done, self._steps >= self.max_episode_steps
        self._done = terminated | truncated
        seen = self.physics.observe(self._state)
        return seen, np.where(done, 0.0, reward), terminated, truncated, {}


def rk4(derivative: Derivative, y: Array, dt: Any) -> Array:
    """Integrate dy/dt = f(y) over dt by the classical fourth-order Runge-Kutta method.

    Args:
        derivative: f.
        y: y at the start of the step, (..., n).
        dt: time step.

    Returns:
        y at the end of the step, (..., n).

    >>> float(rk4(lambda y: -y, np.array(1.0), 0.1).round(6))  # exp(-0.1)
    0.904838
    """
    half = dt / 2.0
    k1 = derivative(y)
    k2 = derivative(y + half * k1)
    k3 = derivative(y + half * k2)
    k4 = derivative(y + dt * k3)
    end: Array = y + dt / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
    return end
