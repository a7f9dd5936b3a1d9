"""Events of a sensor from a file of one's own: `noisynets train events --data-dir FILE.npz`.

The file holds x_train and x_test, (n, *sensor, T), 0 or 1 or small counts, time last, and y_train
and y_test, (n,), labels from 0. Sets in this format: clear-nus/TactileSGNet's tactile objects.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.tasks.data.task import Examples, Task

NAMES = ("x_train", "y_train", "x_test", "y_test")
SHARE, SEED = 8, 0


@lru_cache(maxsize=1)
def read(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read the four arrays and check that they belong together.

    Raises:
        InputError: for a file that is missing, damaged, or has other axes or labels.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in NAMES if name not in file]
            if missing:
                raise InputError(f"{path}: no {', '.join(missing)}; {', '.join(NAMES)} are needed")
            arrays = {name: file[name] for name in NAMES}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable .npz file ({error})") from error
    problems = list(_problems(arrays))
    if problems:
        raise InputError(f"{path}: {'; '.join(problems)}")
    return arrays


def _problems(arrays: dict[str, NDArray[np.int64]]) -> list[str]:
    found = []
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim < 3 or y.ndim != 1 or len(x) != len(y) or not x.size:
            found.append(
                f"x_{part} {x.shape} and y_{part} {y.shape} where (n, *sensor, T) and (n,) are "
                "needed"
            )
            continue
        if x.dtype.kind not in "biuf" or x.min() < 0 or x.max() > 127 or (x != x.round()).any():
            found.append(f"x_{part} holds more than counts from 0 to 127")
        if y.dtype.kind not in "iu" or y.min() < 0:
            found.append(f"y_{part} holds more than labels from 0")
    if not found and len(arrays["y_train"]) < 2:
        found.append("one example to train on leaves none to choose on")
    if not found:
        one, other = arrays["x_train"].shape[1:], arrays["x_test"].shape[1:]
        most = int(arrays["y_train"].max())
        if one != other:
            found.append(f"examples of shape {one} to train and {other} to test")
        if int(arrays["y_test"].max()) > most:
            found.append(f"y_test has label {int(arrays['y_test'].max())}, y_train ends at {most}")
        if most > 10_000:
            found.append(f"label {most} is no class")
    return found


def load(part: str, folder: Path | None, *, path: Path) -> Examples:
    """Return one part with the time behind the batch; to train on, in a fixed random order."""
    arrays = read(path)
    x = torch.from_numpy(arrays[f"x_{part}"].astype(np.int8)).movedim(-1, 1).contiguous()
    y = torch.from_numpy(arrays[f"y_{part}"].astype(np.int64))
    if part == "test":
        return Examples(x, y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
    return Examples(x[order], y[order])


def task(path: Path) -> Task:
    """Return the task that a file describes; an eighth of its training part is for validation.

    Raises:
        InputError: for a file that cannot be used.
    """
    arrays = read(path)
    n, *sensor, steps = arrays["x_train"].shape
    return Task(
        name="events",
        summary=f"events of a sensor, from {path.name}",
        input_shape=tuple(sensor),
        classes=int(arrays["y_train"].max()) + 1,
        load=partial(load, path=path),
        validation=max(1, n // SHARE),
        steps=steps,
    )
