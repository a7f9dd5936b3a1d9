"""Yin-Yang: classification of points of the plane as yin, yang or dot; generated here.

The same seeds give the same points as the authors' code.

Source: Kriener, Göltz and Petrovici, *The Yin-Yang dataset* (NICE 2022, arXiv 2102.08211); code
lkriener/yin_yang_data_set.
"""

from __future__ import annotations

from math import hypot
from pathlib import Path

import numpy as np
import torch

from noisynets.tasks.data.task import Examples, Task

SMALL, BIG = 0.1, 0.5
"""Radius of the dots, and of the whole symbol, which is centred at (0.5, 0.5)."""
SIZES = {"train": (5000, 42), "validation": (1000, 41), "test": (1000, 40)}
"""Number of points and seed of each part."""


def label(x: float, y: float) -> int:
    """Return the class of a point inside the circle: 0 for yin, 1 for yang, 2 for a dot.

    >>> [label(0.25, 0.5), label(0.3, 0.3), label(0.7, 0.3)]
    [2, 0, 1]
    """
    left, right = hypot(x - BIG / 2, y - BIG), hypot(x - 1.5 * BIG, y - BIG)
    if right < SMALL or left < SMALL:
        return 2
    yin = right <= SMALL or SMALL < left <= BIG / 2 or (y > BIG and right > BIG / 2)
    return 0 if yin else 1


def points(size: int, seed: int) -> Examples:
    """Draw points by rejection: a class first, with equal probabilities, then a point of it.

    Args:
        size: number of points.
        seed: seed of NumPy's `RandomState`.

    Returns:
        Inputs (size, 4), each x, y, 1 − x, 1 − y, and labels (size,).
    """
    rng = np.random.RandomState(seed)
    inputs, labels = np.empty((size, 4), dtype=np.float32), np.empty(size, dtype=np.int64)
    for i in range(size):
        goal = rng.randint(3)
        while True:
            x, y = rng.rand(2) * 2 * BIG
            if hypot(x - BIG, y - BIG) <= BIG and label(x, y) == goal:
                break
        inputs[i], labels[i] = (x, y, 1 - x, 1 - y), goal
    return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))


def load(part: str, folder: Path | None = None) -> Examples:
    """Return the 5,000 training points followed by 1,000 validation points, or 1,000 test points.

    Args:
        part: 'train' or 'test'.
        folder: ignored.
    """
    names = ("train", "validation") if part == "train" else ("test",)
    made = [points(*SIZES[name]) for name in names]
    return Examples(torch.cat([m.x for m in made]), torch.cat([m.y for m in made]))


YIN_YANG = Task(
    name="yinyang",
    summary="points of the plane: yin, yang or dot; 5,000 train, 1,000 validation, 1,000 test",
    input_shape=(4,),
    classes=3,
    load=load,
    validation=1000,
    reference="4-30-3 perceptron 97.6 ± 1.5, hidden layer frozen 85.5 ± 5.8, none 63.8 ± 1.0 "
    "(Kriener et al., arXiv 2102.08211)",
)
