"""An environment as a task: disjoint sets of episode seeds for training, validation and test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noisynets.core.errors import InputError
from noisynets.core.reading import reason
from noisynets.tasks.data import RETURN, Examples, Task
from noisynets.tasks.environments.episodes import Episodes, limit, vector
from noisynets.tasks.environments.pictures import draw_episode
from noisynets.tasks.environments.spaces import action_adapter, observation_adapter

TRAIN, VALIDATION, TEST = 1000, 100, 100
"""Number of episodes of a training epoch, of the validation set and of the test set."""

FIRST_TEST_SEED = 1_000_000
"""Seed of the first test episode."""


def task(name: str, environment: str, settings: Sequence[str], random_numbers: str) -> Task:
    """Return the task of acting in an environment.

    Args:
        name: name of the task.
        environment: id of the environment.
        settings: as in `environment_task`.
        random_numbers: as in `environment_task`.

    Raises:
        InputError: if the id or a setting is unknown, or a space is not supported.
    """
    given = parsed(settings)
    envs = vector(environment, 1, given)
    try:
        steps = limit(envs, environment)
        observations = observation_adapter(envs.single_observation_space, environment)
        actions = action_adapter(envs.single_action_space, environment)
        spec = envs.unwrapped.spec
    finally:
        envs.close()
    threshold = None if spec is None else spec.reward_threshold
    return Task(
        name=name,
        summary=f"policy for {environment}, at most {steps} steps; score: return of an episode",
        input_shape=observations.shape,
        classes=actions.outputs,
        load=load,
        validation=VALIDATION,
        measure=RETURN,
        steps=observations.steps,
        reference="" if threshold is None else f"solved from a mean return of {threshold:g}",
        world=partial(
            Episodes, environment=environment, settings=given, random_numbers=random_numbers
        ),
        pictures=draw_episode,
    )


def load(part: str, folder: Path | None = None) -> Examples:
    """Return episode seeds as examples.

    Args:
        part: 'train' or 'test'.
        folder: ignored.

    Returns:
        Seeds (n, 1), int64, and labels (n,), all 0 and unused.
    """
    first, n = (FIRST_TEST_SEED, TEST) if part == "test" else (0, TRAIN + VALIDATION)
    return Examples(torch.arange(first, first + n)[:, None], torch.zeros(n, dtype=torch.int64))


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Parse settings 'NAME=VALUE' with values in JSON or plain strings.

    Raises:
        InputError: if a setting lacks its name or its value.

    >>> parsed(["sigma=[0.1, 0.2]", "hold=true", "kind=slow"])
    {'sigma': [0.1, 0.2], 'hold': True, 'kind': 'slow'}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name.isidentifier() and equals and value):
            raise InputError(f"--env {setting}: write NAME=VALUE, for example sigma=0.2")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
        except RecursionError as error:
            raise InputError(f"--env {name}: {reason(error)}") from error
    return found
