"""Arrays of a user's own: `noisynets train arrays:FILE.npz` or `arrays:FILE.csv`.

An .npz file holds x and y, or x_train and y_train; and x_val, y_val, x_test and y_test, if these
parts are given. Whole numbers and texts in y are classes, other numbers are values to predict. x is
(n, d), which is standardised per column by mean and standard deviation of the training examples;
(n, T, d) or (n, T, C, H, W), sequences; or (n, C, H, W), pictures. Bytes (uint8) are divided by 255
instead, and bytes (n, H, W) are grey pictures.
"""

from __future__ import annotations

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisynets.core.arrays import read_npz
from noisynets.core.errors import InputError
from noisynets.core.reading import memory, opened
from noisynets.tasks.data.csv_files import Table, numbers, read_table, targets
from noisynets.tasks.data.own import ARRAYS, WHOLE, Found, Parts, trained_on
from noisynets.tasks.data.own import task as own_task
from noisynets.tasks.data.task import Inputs, Task

TABLES = (".csv", ".tsv")
ALIASES = {
    WHOLE: (("x", "y"), ("x_train", "y_train")),
    "val": (("x_val", "y_val"), ("x_valid", "y_valid")),
    "test": (("x_test", "y_test"),),
}
"""Names of the arrays of each part."""
ADVICE = "an .npz file with arrays x and y (and x_val, y_val, x_test, y_test) is needed"
LARGEST = 1e30
"""Largest number in x and y: its square is finite in float64, and it is so itself in float32."""
FEWEST = 2
"""Examples of a class, on average, below which whole numbers and texts are no classes."""

Pair = tuple[NDArray[Any], NDArray[Any]]
"""Inputs and targets, as read."""


def read_parts(path: Path) -> dict[str, Pair]:
    """Read a file: inputs and targets by part; `WHOLE`, if there is one part alone.

    Raises:
        InputError: if it cannot be read, or an array is missing or has a wrong shape.
    """
    if path.suffix.lower() in TABLES:
        table = read_table(path)
        columns = [i for i in range(len(table.names)) if i != table.target]
        return {WHOLE: (numbers(table, columns), targets(table))}
    with opened(path, ADVICE):  # says why it cannot be opened
        pass
    arrays = read_npz(path, limit=memory() // 8, what=str(path), advice=ADVICE)
    found = {}
    for part, names in ALIASES.items():
        there = [(x, y) for x, y in names if x in arrays or y in arrays]
        if there:
            lacking = [name for name in there[0] if name not in arrays]
            if lacking:
                raise InputError(f"{path}: has no array {lacking[0]!r}: {ADVICE}")
            found[part] = arrays[there[0][0]], arrays[there[0][1]]
    if WHOLE not in found:
        raise InputError(f"{path}: has no array 'x', but {', '.join(arrays) or 'none'}: {ADVICE}")
    for part, (x, y) in found.items():
        _check(path, part, x, y, found[WHOLE][0].shape[1:])
    return found if len(found) == 1 else {"train": found.pop(WHOLE), **found}


def _check(path: Path, part: str, x: NDArray[Any], y: NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise an InputError for arrays that are no inputs and targets."""
    where = f"{path}: " if part == WHOLE else f"{path}: {part}: "
    if x.dtype.kind not in "biuf":
        raise InputError(f"{where}x contains {x.dtype}, not numbers: encode them as numbers")
    if not 2 <= x.ndim <= 5 or not x.size:
        raise InputError(
            f"{where}x has the shape {x.shape}: needed is (n, d), (n, T, d), (n, C, H, W) or "
            "(n, T, C, H, W)"
        )
    if y.ndim not in (1, 2) or len(y) != len(x) or not y.size:
        raise InputError(
            f"{where}x has the shape {x.shape} and y {y.shape}: y must be ({len(x)},), or "
            f"({len(x)}, outputs) for values to predict"
        )
    if x.shape[1:] != shape:
        raise InputError(f"{where}inputs have the shape {x.shape[1:]}, others {shape}")
    if y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind != "f":
        raise InputError(
            f"{where}y has the shape {y.shape} and contains {y.dtype}: labels must be "
            f"({len(x)},), values to predict floating-point numbers"
        )
    for name, values in (("x", x), ("y", y)):
        if values.dtype.kind == "f":
            wrong = np.flatnonzero(~(np.abs(values.reshape(len(x), -1)) < LARGEST).all(1))
            if wrong.size:
                raise InputError(
                    f"{where}row {wrong[0]} of {name} contains NaN, infinity or a value beyond "
                    f"{LARGEST:g}: clean the data first"
                )


def _labels(path: Path, parts: dict[str, Pair]) -> tuple[str, ...]:
    """Return the names of the classes, in their order; (), if the targets are numbers."""
    every = [y.reshape(-1) for _, y in parts.values()]
    kinds = {("f" if y.dtype.kind == "f" else "U" if y.dtype.kind in "US" else "i") for y in every}
    if len(kinds) > 1:
        raise InputError(f"{path}: targets are numbers in one part and labels in another")
    if kinds == {"f"}:
        return ()
    together = np.concatenate([y.astype(str) if kinds == {"U"} else y for y in every])
    values = np.unique(together)
    if len(values) > 10 and FEWEST * len(values) > len(together):
        raise InputError(
            f"{path}: {len(together)} targets have {len(values)} different values "
            f"({values[0]}, {values[1]}, …), too many for classes: values to predict must be "
            "floating-point numbers, as 3.0"
        )
    return tuple(map(str, values.tolist()))


def _numbered(path: Path, y: NDArray[Any], labels: tuple[str, ...]) -> Tensor:
    """Return targets as numbers of classes, (n,)."""
    number = {label: i for i, label in enumerate(labels)}
    plain = y.astype(str) if y.dtype.kind == "S" else y
    texts = [str(value) for value in plain.reshape(-1).tolist()]
    strange = next((text for text in texts if text not in number), None)
    if strange is not None:
        raise InputError(
            f"{path}: has a class {strange!r}, which was not trained; there are {', '.join(labels)}"
        )
    return torch.tensor([number[text] for text in texts])


def _plain(x: NDArray[Any]) -> Tensor:
    """Return inputs as bytes, which a batch divides by 255, or as numbers; grey pictures get C."""
    if x.dtype == np.uint8:
        return torch.from_numpy(x[:, None] if x.ndim == 3 else x)
    return torch.from_numpy(x.astype(np.float32))


Scale = tuple[Tensor, Tensor]


def _scale(values: NDArray[Any]) -> Scale:
    """Return mean and standard deviation of columns, float64; 1 for columns that are constant."""
    columns = torch.from_numpy(values.astype(np.float64))
    deviation = columns.std(0, correction=0)
    constant = deviation <= 1e-12 * columns.abs().amax(0)
    return columns.mean(0), torch.where(constant, 1.0, deviation)


def _scaled(values: NDArray[Any], scale: Scale | None) -> Tensor:
    if scale is None:
        return _plain(values)
    return ((torch.from_numpy(values.astype(np.float64)) - scale[0]) / scale[1]).float()


def _prepared(
    path: Path,
    parts: dict[str, Pair],
    labels: tuple[str, ...],
    scale: Scale | None,
    target: Scale | None,
) -> Parts:
    """Return parts with inputs and targets as they are trained on."""
    return {
        part: (
            _scaled(x, scale),
            _numbered(path, y, labels) if labels else _scaled(y.reshape(len(y), -1), target),
        )
        for part, (x, y) in parts.items()
    }


def _others(
    path: Path,
    *,
    shape: tuple[int, ...],
    labels: tuple[str, ...],
    scale: Scale | None,
    target: Scale | None,
) -> Parts:
    """Read the parts of another file, prepared as those of the task."""
    parts = read_parts(path)
    for x, y in parts.values():
        if x.shape[1:] != shape:
            raise InputError(
                f"{path}: inputs have the shape {x.shape[1:]}, those that were trained {shape}"
            )
        if bool(labels) == (y.dtype.kind == "f"):
            learned = "labels" if labels else "numbers"
            raise InputError(f"{path}: its targets are of another kind than the {learned} trained")
        if target is not None and y.reshape(len(y), -1).shape[1] != len(target[0]):
            raise InputError(f"{path}: y has the shape {y.shape}; {len(target[0])} were trained")
    return _prepared(path, parts, labels, scale, target)


def _inputs(path: Path, *, shape: tuple[int, ...], scale: Scale | None) -> Inputs:
    """Read inputs of an .npz file with x, or of a CSV file with or without a column of targets."""
    if path.suffix.lower() in TABLES:
        x = _columns(read_table(path), shape)
    else:
        advice = "an .npz file with an array x is needed"
        x = read_npz(path, limit=memory() // 8, what=str(path), names=("x",), advice=advice)["x"]
    if x.dtype.kind not in "biuf" or x.shape[1:] != shape or not x.size:
        raise InputError(
            f"{path}: inputs {x.dtype} {x.shape}; those that were trained have the shape {shape}"
        )
    if not np.isfinite(x).all():
        raise InputError(f"{path}: x contains NaN or infinity: clean the data first")
    return _scaled(x, scale), [f"row {i}" for i in range(len(x))]


def _columns(table: Table, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the inputs of a table, which may also have targets."""
    columns = list(range(len(table.names)))
    if len(shape) == 1 and len(columns) == shape[0] + 1:
        columns.remove(table.target)
    return numbers(table, columns)


@lru_cache(maxsize=1)
def _read(path: Path, version: tuple[int, int]) -> Task:
    """Return the task of a file; `version` changes whenever it does."""
    parts = read_parts(path)
    x, y = next(iter(parts.values()))
    labels = _labels(path, parts)
    given = tuple(x.shape[1:])
    rows = x.ndim == 2 and x.dtype != np.uint8
    values = y.reshape(len(y), -1)
    learned = _numbered(path, y, labels) if labels else torch.from_numpy(values)
    chosen = trained_on(learned, parts).numpy()
    scale = _scale(x[chosen]) if rows else None
    target = None if labels else _scale(values[chosen])
    if not labels and not np.ptp(values[chosen], axis=0).all():
        raise InputError(f"{path}: a value to predict is the same in every row: leave it out")
    shape = (1, *given) if x.ndim == 3 and x.dtype == np.uint8 else given
    timed = len(shape) in (2, 4)
    found = Found(
        what=_what(shape, timed, rows),
        parts=_prepared(path, parts, labels, scale, target),
        labels=labels,
        shape=shape[1:] if timed else shape,
        steps=shape[0] if timed else 0,
        inputs=partial(_inputs, shape=given, scale=scale),
        others=partial(_others, shape=given, labels=labels, scale=scale, target=target),
        target=target,
        scale=scale,
    )
    return own_task(f"{ARRAYS}{path}", path, found)


def _what(shape: tuple[int, ...], timed: bool, rows: bool) -> str:
    """Say what the inputs are."""
    if timed:
        return f"sequences of T = {shape[0]} steps of shape {shape[1:]}"
    if len(shape) == 3:
        return f"pictures of shape (C, H, W) = {shape}"
    return f"rows of {shape[0]} numbers" + (", standardised per column" if rows else "")


def task(path: Path) -> Task:
    """Return the task of a file of arrays.

    Raises:
        InputError: if the file cannot be used.
    """
    if path.suffix.lower() not in (".npz", *TABLES):
        raise InputError(f"{path}: is neither .npz nor .csv: save arrays as one of these")
    with opened(path, ADVICE) as file:
        state = os.fstat(file.fileno())
    return _read(path, (state.st_mtime_ns, state.st_size))
