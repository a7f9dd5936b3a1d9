"""SARCOS: inverse dynamics of a robot arm, 21 states → 7 torques, from the user's own files.

The publisher offers MATLAB files at gaussianprocess.org/gpml/data. All values are standardised by
mean and standard deviation of the training examples, so that predicting the mean has a normalised
squared error of 1.

Source: Vijayakumar and Schaal (2000); Rasmussen and Williams, *Gaussian Processes for Machine
Learning* (2006), section 2.5.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.tasks.data.measure import NMSE
from noisynets.tasks.data.task import Examples, Task

STATES, TORQUES = 21, 7
SEED = 0
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
    try:
        if path.is_dir():
            from scipy.io import loadmat

            train, test = (
                loadmat(path / f"{name}.mat")[name] for name in ("sarcos_inv", "sarcos_inv_test")
            )
            parts = [(t[:, :STATES], t[:, STATES:]) for t in (train, test)]
        else:
            with np.load(path, allow_pickle=False) as file:
                x, y = file["x"], file["y"]
            order = np.random.default_rng(SEED).permutation(len(x))
            split = 9 * len(x) // 10
            parts = [(x[i], y[i]) for i in (order[:split], order[split:])]
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: not SARCOS ({error}): {ADVICE}") from error
    for x, y in parts:
        if x.ndim != 2 or x.shape[1] != STATES or y.shape != (len(x), TORQUES) or len(x) < 10:
            raise InputError(f"{path}: x {x.shape} and y {y.shape} are not SARCOS: {ADVICE}")
    return parts[0], parts[1]


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
