"""Tasks and their noisy variants, from which the registered ids are made."""

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
    """One of Gymnasium's tasks, as a single environment and as a vector environment.

    Attributes:
        single: makes a single environment.
        vector: makes a vector environment.
        max_episode_steps: number of steps after which an episode is truncated.
    """

    single: Callable[..., Env]
    vector: Callable[..., Envs]
    max_episode_steps: int


class Variant(NamedTuple):
    """A channel, with the wrappers that apply it to observations or actions.

    Attributes:
        channel: the channel's class.
        wrapper: wrapper of single environments.
        vector: wrapper of vector environments.
        defaults: default settings of the channel, by task.
    """

    channel: type[Channel]
    wrapper: Callable[..., Env]
    vector: Callable[..., Envs]
    defaults: Mapping[str, Mapping[str, Any]]


TASKS = {
    "CartPole": Task(CartPoleEnv, CartPoleVectorEnv, 500),
    "Acrobot": Task(AcrobotEnv, partial(PhysicsVectorEnv, Acrobot()), 500),
    "MountainCar": Task(MountainCarEnv, partial(PhysicsVectorEnv, MountainCar()), 200),
    "Pendulum": Task(PendulumEnv, partial(PhysicsVectorEnv, Pendulum()), 200),
}

CARTPOLE = [2.4, 3.0, 0.21, 3.0]
"""Range of position (m), speed (m/s), angle (rad) and angular speed (rad/s) in CartPole.

An episode ends at the limits of position and angle; those of the speeds, which are rarely exceeded,
are chosen here.
"""
RANGE = {"low": [-bound for bound in CARTPOLE], "high": CARTPOLE}

VARIANTS = {
    # CartPole: the lowest of popgym's three levels. Others: 3 to 6 % of each range, chosen here.
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
    # Chosen here. A step takes 20 ms in CartPole, 200 ms in Acrobot and 50 ms in Pendulum; in
    # MountainCar its length is not defined.
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
"""Noise of cosines, sines and speeds (rad/s), and a delay of 50 ms; the target has no noise."""


def single(task: str, variant: str, render_mode: str | None = None, **settings: Any) -> Env:
    """Make one environment of a registered id.

    Args:
        task: a name in TASKS.
        variant: a name in VARIANTS.
        render_mode: render mode of Gymnasium's environment.
        **settings: settings of the variant's channel.

    Raises:
        ValueError: if a setting is unknown or out of range.

    >>> single("CartPole", "Noisy", sgima=0.2)
    Traceback (most recent call last):
    ...
    ValueError: NoisyCartPole: unknown setting 'sgima'; known: sigma
    """
    channel = made(VARIANTS[variant].channel, settings, owner=variant + task)
    return VARIANTS[variant].wrapper(TASKS[task].single(render_mode=render_mode), channel)


def vector(task: str, variant: str, num_envs: int, max_episode_steps: int, **settings: Any) -> Envs:
    """Make a vector environment of a registered id, without rendering.

    Args:
        task: a name in TASKS.
        variant: a name in VARIANTS.
        num_envs: number of environments.
        max_episode_steps: number of steps after which episodes are truncated.
        **settings: settings of the variant's channel.

    Raises:
        ValueError: if a setting is unknown or out of range.
    """
    whole(variant + task, least=1, num_envs=num_envs, max_episode_steps=max_episode_steps)
    channel = made(VARIANTS[variant].channel, settings, owner=variant + task)
    envs = TASKS[task].vector(num_envs=num_envs, max_episode_steps=max_episode_steps)
    return VARIANTS[variant].vector(envs, channel)


def noisy_arm(
    sigma: Any, delay: int, render_mode: str | None = None, **settings: Any
) -> gym.Env[Any, Any]:
    """Make an arm with noisy and delayed observations.

    Args:
        sigma: standard deviation of the observations' noise, one number or one for each component.
        delay: delay of the observations, in steps of 10 ms.
        render_mode: None, or "rgb_array".
        **settings: parameters of `Arm`.
    """
    arm = PhysicsEnv(made(Arm, settings, owner="NoisyArm"), render_mode)
    return Observe(arm, [Gaussian(sigma), Delay(delay)])


def noisy_arms(
    sigma: Any, delay: int, num_envs: int, max_episode_steps: int | None = None, **settings: Any
) -> Envs:
    """Make a vector environment of arms; arguments as in `noisy_arm`."""
    physics = made(Arm, settings, owner="NoisyArm")
    arms = PhysicsVectorEnv(physics, num_envs, max_episode_steps)
    return VectorObserve(arms, [Gaussian(sigma), Delay(delay)])


def chip(render_mode: str | None = None, **settings: Any) -> Env:
    """Make an environment with a chip in a control loop.

    Args:
        render_mode: None, or "rgb_array".
        **settings: parameters of `Chip`.
    """
    return PhysicsEnv(made(Chip, settings), render_mode)


def chips(num_envs: int, max_episode_steps: int | None = None, **settings: Any) -> Envs:
    """Make a vector environment of chips; arguments as in `chip`."""
    return PhysicsVectorEnv(made(Chip, settings), num_envs, max_episode_steps)
