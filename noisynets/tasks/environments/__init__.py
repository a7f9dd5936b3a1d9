"""Reinforcement-learning tasks: a network acts as a policy in a Gymnasium environment.

The examples of such a task are seeds, one for each episode. `Episodes` combines a network and an
environment into a system that maps seeds to returns. Gymnasium is imported when first used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noisynets.core.registry import Registry
from noisynets.tasks.data.own import is_own

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
"""Environment ids by task name."""

SIGMA, WEIGHT_SIGMA, LR = 0.5, 0.1, 0.02
"""Defaults of policies: σ at nodes, in units of the activities, σ of weights, and learning rate.

Chosen on CartPole. They are larger than the rules' defaults, which suit smooth losses: an action
changes only if the noise is large.
"""

PREFIX, OURS = "gym:", "noisynets/"
_VERSION = re.compile(r"-v\d+$")


def is_environment(name: str) -> bool:
    """Return True if a task name denotes an environment.

    Such names are the keys of `ENVIRONMENTS`, names with a version such as '-v3', and 'gym:ID'.

    >>> [is_environment(name) for name in ("cartpole", "LunarLander-v3", "gym:mine", "mnist")]
    [True, True, True, False]
    >>> is_environment("folder:pictures-v2")
    False
    """
    if is_own(name):
        return False
    return name in ENVIRONMENTS or name.startswith(PREFIX) or bool(_VERSION.search(name))


def environment_task(
    name: str, settings: Sequence[str] = (), random_numbers: str = "common"
) -> Task:
    """Return the task of acting in an environment.

    Args:
        name: a key of `ENVIRONMENTS`, a registered id, or 'gym:ID'.
        settings: settings of the environment, each 'NAME=VALUE' with a value in JSON or a plain
            string.
        random_numbers: 'common' or 'independent': the environment's random numbers in the passes
            of a pair.

    Raises:
        InputError: if the id or a setting is unknown, or a space is not supported.
    """
    from noisynets.tasks.environments.tasks import task

    environment = ENVIRONMENTS.get(name, name.removeprefix(PREFIX))
    if environment.startswith(OURS):  # Gymnasium imports the module before the colon
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
