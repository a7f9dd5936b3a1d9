"""Policies: networks that act in Gymnasium environments, and the tasks made of these.

A task is a set of seeds, one for each episode; `Episodes` makes a system of a network that acts.
Gymnasium is imported where it is first needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noisynets.core.registry import Registry

if TYPE_CHECKING:
    from noisynets.tasks.data import Task
    from noisynets.tasks.environments.episodes import Episodes

ENVIRONMENTS = Registry(
    "environment",
    {
        "cartpole": "CartPole-v1",
        "acrobot": "Acrobot-v1",
        "mountain-car": "MountainCar-v0",
        "pendulum": "Pendulum-v1",
        "noisy-cartpole": "noisynets_envs:noisynets/NoisyCartPole-v0",
    },
)
"""Names of tasks, and the ids of their environments."""

SIGMA, WEIGHT_SIGMA, LR = 0.5, 0.1, 0.02
"""Noise injected at nodes, in units of the activities, and in weights; learning rate.

Chosen on CartPole. Actions change by noise that is large; the rules' own is for smooth losses.
"""

PREFIX, OURS = "gym:", "noisynets/"
_VERSION = re.compile(r"-v\d+$")


def is_environment(name: str) -> bool:
    """Whether a task's name is that of an environment: known here, with a version, or 'gym:ID'.

    >>> [is_environment(name) for name in ("cartpole", "LunarLander-v3", "gym:mine", "mnist")]
    [True, True, True, False]
    """
    return name in ENVIRONMENTS or name.startswith(PREFIX) or bool(_VERSION.search(name))


def environment_task(
    name: str, settings: Sequence[str] = (), random_numbers: str = "common"
) -> Task:
    """Return the task of acting in an environment.

    Args:
        name: a key of `ENVIRONMENTS`, a registered id, or 'gym:ID'.
        settings: of the environment, as 'sigma=0.2'; values as in JSON, or texts.
        random_numbers: 'common' or 'independent', of the passes of a pair.

    Raises:
        InputError: for an unknown id, impossible settings or spaces.
    """
    from noisynets.tasks.environments.tasks import task

    environment = ENVIRONMENTS.get(name, name.removeprefix(PREFIX))
    if environment.startswith(OURS):  # what stands before a colon, Gymnasium imports
        environment = f"noisynets_envs:{environment}"
    return task(name, environment, settings, random_numbers)


def __getattr__(name: str) -> Any:
    if name == "Episodes":
        from noisynets.tasks.environments.episodes import Episodes

        return Episodes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ENVIRONMENTS",
    "LR",
    "SIGMA",
    "WEIGHT_SIGMA",
    "Episodes",
    "environment_task",
    "is_environment",
]
