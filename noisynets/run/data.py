"""The examples of a run, loaded onto its device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from noisynets.core.errors import InputError
from noisynets.run.memory import check_memory
from noisynets.run.settings import Config, task_of
from noisynets.tasks.data import Examples, Task

Data = tuple[Examples, Examples | None]
"""Training and validation examples; None: all examples are trained on."""


def load_data(config: Config) -> Data:
    """Load the examples to train and to validate on, onto the device of the run.

    Raises:
        InputError: for files that are missing or damaged, or examples that make no sense.
    """
    train_set, val_set = _training(config)
    check_memory(config, len(train_set))
    if config.standardise:
        val_set = None if val_set is None else val_set.standardised(train_set)
        train_set = train_set.standardised(train_set)
    if config.encoder in ("rate", "latency"):
        for part in (train_set, *([] if val_set is None else [val_set])):
            least = -1.0 if config.standardise else float(part.x.min())
            if least < 0:
                raise InputError(
                    f"--encoder {config.encoder}: {config.task} has inputs down to {least:g}: use "
                    "current or delta"
                )
    device = torch.device(config.device)
    return train_set.to(device), None if val_set is None else val_set.to(device)


def load_test(config: Config) -> Examples:
    """Load the test set, which is read once, after all settings are chosen."""
    test_set = task_of(config).test(_data_dir(config))
    if config.standardise:
        test_set = test_set.standardised(_training(config)[0])
    return test_set.to(torch.device(config.device))


def load_others(config: Config, path: Path, split: str) -> Examples:
    """Load examples of other files than those of the run, with the same classes.

    Args:
        config: resolved settings of the run.
        path: of the files.
        split: 'train', 'validation' or 'test'; of own files without parts, all are returned.

    Raises:
        InputError: if they cannot be used, or do not fit the task.
    """
    own = task_of(config).own
    if own is None:
        other = replace(config, data_dir=str(path.absolute()))
        _check_same(task_of(config), task_of(other), path)
        if split == "test":
            return load_test(other)
        train_set, val_set = load_data(other)
        if split == "train":
            return train_set
        if val_set is None:
            raise InputError("trained with --final-fit, so there is no validation set")
        return val_set
    found = own.others(path, split)
    if config.standardise:
        found = found.standardised(_training(config)[0])
    return found.to(torch.device(config.device))


def _check_same(task: Task, other: Task, path: Path) -> None:
    """Raise an InputError for files whose examples have other shapes or symbols."""
    if task.vocabulary != other.vocabulary or (task.input_shape, task.classes, task.steps) != (
        other.input_shape,
        other.classes,
        other.steps,
    ):
        raise InputError(f"{path}: {other.summary}; the run has learned {task.summary}")


def _training(config: Config) -> Data:
    train_set, val_set = task_of(config).training(_data_dir(config), config.final_fit)
    n = config.train_examples
    if n > len(train_set):
        raise InputError(f"--train-examples {n}: {config.task} has {len(train_set)}")
    return train_set.drawn(n) if n else train_set, val_set


def _data_dir(config: Config) -> Path | None:
    return None if config.data_dir is None else Path(config.data_dir)
