"""Sensor events from the user's own file: `noisynets train events --data-dir FILE.npz`.

The file contains x_train and x_test, (n, *sensor, T), with event counts from 0 to 127 and time as
the last axis, and y_train and y_test, (n,), with labels that start at 0. The tactile data sets of
clear-nus/TactileSGNet have this format.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.arrays import read_npz
from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.reading import memory
from noisynets.tasks.data.task import Examples, Task

NAMES = ("x_train", "y_train", "x_test", "y_test")
SHARE, SEED = 8, 0
"""One in `SHARE` training examples is for validation; seed of the fixed order of the examples."""


@lru_cache(maxsize=1)
def read(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read the four arrays and check that their shapes and values fit together.

    Args:
        path: path of the .npz file.

    Returns:
        Arrays x_train, y_train, x_test and y_test by name.

    Raises:
        InputError: if the file is missing or damaged, or has wrong axes or labels.
    """
    arrays = read_npz(
        path,
        limit=memory() // 8,
        what=str(path),
        names=NAMES,
        advice=f"arrays {', '.join(NAMES)} are needed",
    )
    problems = list(_problems(arrays))
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}", page=Page.DATA)
    return arrays


def _problems(arrays: dict[str, NDArray[np.int64]]) -> list[str]:
    """List what is wrong with the arrays."""
    found = []
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim < 3 or y.ndim != 1 or len(x) != len(y) or not x.size:
            found.append(
                f"x_{part} {x.shape} and y_{part} {y.shape} must have the shapes (n, *sensor, T) "
                "and (n,)"
            )
            continue
        if x.dtype.kind not in "biuf" or x.min() < 0 or x.max() > 127 or (x != x.round()).any():
            found.append(f"x_{part} must contain counts from 0 to 127 only")
        elif not x.any():
            found.append(f"x_{part} contains no event")
        if x.shape[-1] < 3:
            found.append(
                f"x_{part} {x.shape} has {x.shape[-1]} time steps: time must be the last axis"
            )
        if y.dtype.kind not in "iu" or y.min() < 0:
            found.append(f"y_{part} must contain integer labels of at least 0 only")
    if not found and len(arrays["y_train"]) < 2:
        found.append("at least two training examples are needed, one of them for validation")
    if not found:
        one, other = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
        most = int(arrays["y_train"].max())
        if one != other:
            found.append(f"training examples have shape {one}, test examples {other}")
        if int(arrays["y_test"].max()) > most:
            found.append(
                f"y_test has label {int(arrays['y_test'].max())}, the largest in y_train is {most}"
            )
        if most > 10_000:
            found.append(f"label {most} is above the limit of 10000 classes")
        lacking = set(range(min(most, 10_000))) - set(arrays["y_train"].tolist())
        if lacking:
            found.append(
                f"no training example has label {min(lacking)}: labels must be 0 to n − 1, "
                "without gaps"
            )
    return found


def load(part: str, folder: Path | None, *, path: Path) -> Examples:
    """Load one part; training examples come in a fixed random order.

    Args:
        part: 'train' or 'test'.
        folder: ignored.
        path: path of the .npz file.

    Returns:
        Counts (n, T, *sensor), signed bytes, and labels (n,).
    """
    arrays = read(path)
    x = torch.from_numpy(arrays[f"x_{part}"].astype(np.int8)).movedim(-1, 1).contiguous()
    y = torch.from_numpy(arrays[f"y_{part}"].astype(np.int64))
    if part == "test":
        return Examples(x, y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
    return Examples(x[order], y[order])


def task(path: Path) -> Task:
    """Return the task of a file; the last eighth of its training examples is for validation.

    Args:
        path: path of the .npz file.

    Raises:
        InputError: if the file cannot be used.
    """
    arrays = read(path)
    n, *sensor, steps = arrays["x_train"].shape
    classes = int(arrays["y_train"].max()) + 1
    understood = (
        f"{n} training and {len(arrays['x_test'])} test examples, sensor {tuple(sensor)}, "
        f"{steps} time steps, {classes} classes"
    )
    return Task(
        name="events",
        summary=f"events of a sensor, from {path.name}: {understood}",
        input_shape=tuple(sensor),
        classes=classes,
        load=partial(load, path=path),
        validation=max(1, n // SHARE),
        steps=steps,
    )
