"""SARCOS: inverse dynamics of a robot arm, 21 states → 7 torques, from the user's own files.

The publisher offers MATLAB files at gaussianprocess.org/gpml/data. All values are standardised by
mean and standard deviation of the training examples, so that predicting the mean has a normalised
squared error of 1.

Source: Vijayakumar and Schaal (2000); Rasmussen and Williams, *Gaussian Processes for Machine
Learning* (2006), section 2.5.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.arrays import read_npz
from noisynets.core.errors import InputError
from noisynets.core.reading import memory
from noisynets.tasks.data.matlab import read_matrix
from noisynets.tasks.data.measure import NMSE
from noisynets.tasks.data.task import Examples, Task

STATES, TORQUES = 21, 7
SEED = 0
LEAST = 10
"""Examples of a part, at least."""
LARGEST = 1e100
"""Largest value whose square can be averaged."""
ADVICE = (
    "give --data-dir a folder with sarcos_inv.mat and sarcos_inv_test.mat, or one .npz file with "
    "x (n, 21) and y (n, 7), which is split at random with a fixed seed: 80 % training, 10 % "
    "validation, 10 % test"
)

Arrays = tuple[NDArray[np.float64], NDArray[np.float64]]
"""States (n, 21) and torques (n, 7)."""


@lru_cache(maxsize=1)
def read(path: Path) -> tuple[Arrays, Arrays]:
    """Read the examples for training and validation, and the test examples.

    Args:
        path: folder with the publisher's files, or path of an .npz file.

    Raises:
        InputError: if a file is missing or damaged, or the arrays have wrong shapes.
    """
    limit = memory() // 8
    if path.is_dir():
        train, test = (
            read_matrix(path / f"{name}.mat", name, limit=limit, advice=ADVICE)
            for name in ("sarcos_inv", "sarcos_inv_test")
        )
        parts = [(t[:, :STATES], t[:, STATES:]) for t in (train, test)]
        for x, y in parts:
            _check(path, x, y)
        return parts[0], parts[1]
    found = read_npz(path, limit=limit, what=str(path), names=("x", "y"), advice=ADVICE)
    x, y = found["x"], found["y"]
    _check(path, x, y)
    order = np.random.default_rng(SEED).permutation(len(x))
    split = 9 * len(x) // 10
    return (x[order[:split]], y[order[:split]]), (x[order[split:]], y[order[split:]])


def _check(path: Path, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Raise an InputError for arrays that are not states and torques."""
    if x.ndim != 2 or x.shape[1] != STATES or y.shape != (len(x), TORQUES) or len(x) < LEAST:
        raise InputError(f"{path}: x {x.shape} and y {y.shape} are not SARCOS: {ADVICE}")
    for name, values in (("x", x), ("y", y)):
        if values.dtype.kind not in "iuf":
            raise InputError(f"{path}: {name} contains {values.dtype}, not numbers: {ADVICE}")
        wrong = np.flatnonzero(~(np.abs(values) < LARGEST).all(1))
        if wrong.size:
            raise InputError(
                f"{path}: row {wrong[0]} of {name} contains NaN, infinity or a value beyond "
                f"{LARGEST:g}: clean the data first"
            )
    if not np.ptp(y, axis=0).any():
        raise InputError(f"{path}: y is the same in every row: {ADVICE}")


def load(part: str, folder: Path | None, *, path: Path, validation: int) -> Examples:
    """Load one part, standardised by mean and standard deviation of the training examples.

    Args:
        part: 'train' or 'test'.
        folder: ignored.
        path: as in `read`.
        validation: number of the last examples that are for validation.

    Returns:
        States (n, 21) and torques (n, 7), float32.
    """
    (x, y), test = read(path)
    n = len(x) - validation
    scaled = [
        torch.from_numpy((v - of[:n].mean(0)) / (of[:n].std(0) + 1e-12)).float()
        for v, of in zip((x, y) if part == "train" else test, (x, y), strict=True)
    ]
    return Examples(scaled[0], scaled[1])


def task(path: Path | None) -> Task:
    """Return the task of the files; the last ninth of the 'train' part is for validation.

    Args:
        path: as in `read`.

    Raises:
        InputError: if the path is None or the files cannot be used.
    """
    if path is None:
        raise InputError(f"task 'sarcos': {ADVICE}")
    (x, _), _ = read(path)
    validation = len(x) // 9
    return Task(
        name="sarcos",
        summary="21 joint positions, velocities and accelerations → 7 torques; nmse",
        input_shape=(STATES,),
        classes=TORQUES,
        load=partial(load, path=path, validation=validation),
        validation=validation,
        measure=NMSE,
    )
