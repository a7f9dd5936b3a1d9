"""The examples of a run, loaded onto its device."""

from __future__ import annotations

from pathlib import Path

import torch

from noisynets.core.errors import InputError
from noisynets.run.memory import check_memory
from noisynets.run.settings import Config, task_of
from noisynets.tasks.data import Examples

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


def _training(config: Config) -> Data:
    train_set, val_set = task_of(config).training(_data_dir(config), config.final_fit)
    n = config.train_examples
    if n > len(train_set):
        raise InputError(f"--train-examples {n}: {config.task} has {len(train_set)}")
    return train_set.drawn(n) if n else train_set, val_set


def _data_dir(config: Config) -> Path | None:
    return None if config.data_dir is None else Path(config.data_dir)
