"""The tasks and what stands between them and the agent: how registered ids are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from .arm import Arm
from .channel import Channel, made
from .checks import whole
from .chip import Chip
from .classic import Acrobot, MountainCar, Pendulum
from .delay import Delay
from .encoding import RateCode
from .noise import Gaussian
from .physics import PhysicsEnv, PhysicsVectorEnv
from .sensor import Dropout, Quantiser
from .vector import Envs, VectorAct, VectorObserve
from .wrappers import Act, Env, Observe


class Task(NamedTuple):
    """A task of Gymnasium's, one at a time and many at once."""

    single: Callable[..., Env]
    vector: Callable[..., Envs]
    max_episode_steps: int


class Variant(NamedTuple):
    """A channel, and the wrappers that put it before or behind a task."""

    channel: type[Channel]
    wrapper: Callable[..., Env]
    vector: Callable[..., Envs]
    usual: Mapping[str, Mapping[str, Any]]


TASKS = {
    "CartPole": Task(CartPoleEnv, CartPoleVectorEnv, 500),
    "Acrobot": Task(AcrobotEnv, partial(PhysicsVectorEnv, Acrobot()), 500),
    "MountainCar": Task(MountainCarEnv, partial(PhysicsVectorEnv, MountainCar()), 200),
    "Pendulum": Task(PendulumEnv, partial(PhysicsVectorEnv, Pendulum()), 200),
}

CARTPOLE = [2.4, 3.0, 0.21, 3.0]
"""m, m/s, rad, rad/s: where an episode ends, and speeds that are rarely passed (chosen here)."""
RANGE = {"low": [-bound for bound in CARTPOLE], "high": CARTPOLE}

VARIANTS = {
    # CartPole: popgym's easiest level. The others: 3 to 6 % of each range, chosen here.
    "Noisy": Variant(
        Gaussian,
        Observe,
        VectorObserve,
        {
            "CartPole": {"sigma": 0.1},
            "Acrobot": {"sigma": [0.1, 0.1, 0.1, 0.1, 1.0, 2.0]},
            "MountainCar": {"sigma": [0.1, 0.005]},
            "Pendulum": {"sigma": [0.1, 0.1, 0.5]},
        },
    ),
    # Steps of 20 ms, 200 ms, 50 ms, and of no stated length in MountainCar; chosen here.
    "Delayed": Variant(
        Delay,
        Act,
        VectorAct,
        {
            "CartPole": {"steps": 2},
            "Acrobot": {"steps": 1},
            "MountainCar": {"steps": 4},
            "Pendulum": {"steps": 2},
        },
    ),
    "Quantised": Variant(
        Quantiser,
        Observe,
        VectorObserve,
        {
            "CartPole": {"bits": 4, **RANGE},
            "Acrobot": {"bits": 4},
            "MountainCar": {"bits": 4},
            "Pendulum": {"bits": 4},
        },
    ),
    "Dropout": Variant(Dropout, Observe, VectorObserve, {task: {"p": 0.1} for task in TASKS}),
    "Spike": Variant(RateCode, Observe, VectorObserve, {"CartPole": {"steps": 8, **RANGE}}),
}

ARM = {"sigma": [0.02, 0.02, 0.02, 0.02, 0.2, 0.2, 0.0, 0.0], "delay": 5}
"""Noise of cosines, sines and speeds in rad/s, and 50 ms; the target is seen as it is."""


def single(task: str, variant: str, render_mode: str | None = None, **settings: Any) -> Env:
    """Make one environment of a registered id.

    Args:
        task: a name in TASKS.
        variant: a name in VARIANTS.
        render_mode: of Gymnasium's environment.
        **settings: of the variant's channel.

    Raises:
        ValueError: for an unknown or impossible setting.

    >>> single("CartPole", "Noisy", sgima=0.2)
    Traceback (most recent call last):
    ...
    ValueError: NoisyCartPole: unknown setting 'sgima'; known: sigma
    """
    channel = made(VARIANTS[variant].channel, settings, owner=variant + task)
    return VARIANTS[variant].wrapper(TASKS[task].single(render_mode=render_mode), channel)


def vector(task: str, variant: str, num_envs: int, max_episode_steps: int, **settings: Any) -> Envs:
    """Make a vector environment of a registered id; nothing in it is drawn on a screen.

    Args:
        task: a name in TASKS.
        variant: a name in VARIANTS.
        num_envs: number of environments.
        max_episode_steps: after which episodes are truncated.
        **settings: of the variant's channel.

    Raises:
        ValueError: for an unknown or impossible setting.
    """
    whole(variant + task, least=1, num_envs=num_envs, max_episode_steps=max_episode_steps)
    channel = made(VARIANTS[variant].channel, settings, owner=variant + task)
    envs = TASKS[task].vector(num_envs=num_envs, max_episode_steps=max_episode_steps)
    return VARIANTS[variant].vector(envs, channel)


def noisy_arm(
    sigma: Any, delay: int, render_mode: str | None = None, **settings: Any
) -> gym.Env[Any, Any]:
    """Make the arm, with senses that are noisy and late.

    Args:
        sigma: standard deviation of what is observed, one number or one per component.
        delay: of what is observed, in steps of 10 ms.
        render_mode: None, or "rgb_array".
        **settings: of `Arm`.
    """
    arm = PhysicsEnv(made(Arm, settings, owner="NoisyArm"), render_mode)
    return Observe(arm, [Gaussian(sigma), Delay(delay)])


def noisy_arms(
    sigma: Any, delay: int, num_envs: int, max_episode_steps: int | None = None, **settings: Any
) -> Envs:
    """Make many arms; arguments as of `noisy_arm`."""
    physics = made(Arm, settings, owner="NoisyArm")
    arms = PhysicsVectorEnv(physics, num_envs, max_episode_steps)
    return VectorObserve(arms, [Gaussian(sigma), Delay(delay)])


def chip(render_mode: str | None = None, **settings: Any) -> Env:
    """Make a chip in the loop.

    Args:
        render_mode: None, or "rgb_array".
        **settings: of `Chip`.
    """
    return PhysicsEnv(made(Chip, settings), render_mode)


def chips(num_envs: int, max_episode_steps: int | None = None, **settings: Any) -> Envs:
    """Make many chips; arguments as of `chip`."""
    return PhysicsVectorEnv(made(Chip, settings), num_envs, max_episode_steps)
