"""An environment as a task: a set of seeds to learn from, others to choose on, others to test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from noisynets.core.errors import InputError
from noisynets.tasks.data import RETURN, Examples, Task
from noisynets.tasks.environments.episodes import Episodes, limit, vector
from noisynets.tasks.environments.film import pictures
from noisynets.tasks.environments.spaces import muscles, senses

TRAIN, VALIDATION, TEST = 1000, 100, 100
"""Episodes of an epoch, and those that judge."""

TESTED_FROM = 1_000_000
"""The first seed of test."""


def task(name: str, environment: str, settings: Sequence[str], random_numbers: str) -> Task:
    """Return the task of acting in an environment; arguments as of `environment_task`."""
    given = parsed(settings)
    envs = vector(environment, 1, given)
    try:
        steps = limit(envs, environment)
        seen = senses(envs.single_observation_space, environment)
        done = muscles(envs.single_action_space, environment)
        spec = envs.unwrapped.spec
    finally:
        envs.close()
    threshold = None if spec is None else spec.reward_threshold
    return Task(
        name=name,
        summary=f"act in {environment}, at most {steps} steps; the return of an episode counts",
        input_shape=seen.shape,
        classes=done.outputs,
        load=load,
        validation=VALIDATION,
        measure=RETURN,
        steps=seen.steps,
        reference="" if threshold is None else f"solved from a mean return of {threshold:g}",
        world=partial(
            Episodes, environment=environment, settings=given, random_numbers=random_numbers
        ),
        pictures=pictures,
    )


def load(part: str, folder: Path | None = None) -> Examples:
    """Return seeds of episodes, (n, 1), and labels that mean nothing."""
    first, n = (TESTED_FROM, TEST) if part == "test" else (0, TRAIN + VALIDATION)
    return Examples(torch.arange(first, first + n)[:, None], torch.zeros(n, dtype=torch.int64))


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Read settings, 'name=value'; values as in JSON, or texts.

    Raises:
        InputError: for one that has no name or no value.

    >>> parsed(["sigma=[0.1, 0.2]", "hold=true", "kind=slow"])
    {'sigma': [0.1, 0.2], 'hold': True, 'kind': 'slow'}
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name.isidentifier() and equals and value):
            raise InputError(f"--env {setting}: write NAME=VALUE, as sigma=0.2")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
