"""The one way in for what a box says: its layers, its rows and its readings, checked and converted.

`noisynets check-box`, boxes behind pipes and boxes in this process all use these functions.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisynets.core.errors import BoxFailed, NoisynetsError
from noisynets.core.reading import reason
from noisynets.systems.blackbox.contract import Array, Box, Layer, Measured, Reading, Weights

LARGEST = float(np.finfo(np.float32).max)
"""Largest value of a float32 number."""
MOST_WEIGHTS = 2**31
"""Weights of one layer, at most."""
NAMED = 3
"""Faults of a reading that an error message names."""
KINDS = {"O": "objects", "S": "text", "U": "text", "V": "structures", "c": "complex numbers"}
"""What arrays hold that are no numbers, by NumPy's kinds."""


def checked_layers(layers: Any) -> list[Layer]:
    """Return the layers of a box as pairs of whole numbers.

    Args:
        layers: pairs (inputs, outputs), in any form that NumPy reads.

    Raises:
        BoxFailed: if they are no such pairs, or do not form a chain.

    >>> checked_layers(np.array([[16.0, 8.0], [8.0, 3.0]]))
    [Layer(inputs=16, outputs=8), Layer(inputs=8, outputs=3)]
    >>> checked_layers([(16, 8), (7, 3)])
    Traceback (most recent call last):
    ...
    noisynets.core.errors.BoxFailed: layer 0 has 8 outputs, but layer 1 7 inputs \
(see docs/how-to/blackbox.md#the-contract)
    """
    try:
        sizes = np.asarray(layers)
    except Exception as error:
        raise BoxFailed(f"its layers cannot be read ({reason(error)})") from error
    if not sizes.size:
        raise BoxFailed("it has no layers")
    pairs = sizes.ndim == 2 and sizes.shape[1] == 2 and sizes.dtype.kind in "iuf"
    if not pairs or not ((sizes >= 1) & (sizes <= MOST_WEIGHTS) & (sizes % 1 == 0)).all():
        given = reason(ValueError(f"{sizes.tolist()}"))
        raise BoxFailed(f"its layers must be pairs of whole numbers, inputs and outputs: {given}")
    found = [Layer(int(n), int(m)) for n, m in sizes]
    for i, (n, m) in enumerate(found):
        if n * m > MOST_WEIGHTS:
            raise BoxFailed(f"layer {i} has {n} × {m} weights, more than {MOST_WEIGHTS}")
    for i, (lower, upper) in enumerate(zip(found, found[1:], strict=False)):
        if lower.outputs != upper.inputs:
            raise BoxFailed(
                f"layer {i} has {lower.outputs} outputs, but layer {i + 1} {upper.inputs} inputs"
            )
    return found


def checked_rows(rows: Any) -> int | None:
    """Return the most rows that a box takes at a time; None: any number.

    Raises:
        BoxFailed: if it is no whole number of at least 1.
    """
    if rows is None:
        return None
    try:
        found = operator.index(rows)
    except TypeError:
        found = 0
    if found < 1:
        given = reason(ValueError(f"{rows!r}"))
        raise BoxFailed(f"its rows must be a whole number of at least 1, not {given}")
    return found


def numbers(value: Any, shape: tuple[int, ...], largest: float = LARGEST) -> NDArray[Any]:
    """Return measured values as float32 numbers, or as float64 ones if float32 would round them.

    Lists, tensors, booleans, whole numbers and any byte order are converted.

    Args:
        value: the values.
        shape: that they must have.
        largest: magnitude that they may have.

    Raises:
        ValueError: what is wrong with them.

    >>> numbers([[1, 2]], (1, 2))
    array([[1., 2.]])
    >>> numbers([[1.0, 1e300]], (1, 2))
    Traceback (most recent call last):
    ...
    ValueError: 1e+300 in row 0, column 1: too large
    """
    try:
        array = np.asarray(value)
    except Exception as error:
        raise ValueError(f"cannot be read as numbers ({reason(error)})") from error
    if array.shape != shape:
        raise ValueError(f"shape {array.shape}, but {shape} was expected")
    if array.dtype.kind not in "biuf":
        held = KINDS.get(array.dtype.kind, str(array.dtype))
        raise ValueError(f"{held}, but numbers were expected")
    exact = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    with np.errstate(over="ignore"):
        found = array.astype(np.float32 if exact else np.float64, copy=False)
    wrong = ~(np.abs(found) <= largest)
    if np.ma.isMaskedArray(value):
        wrong |= np.ma.getmaskarray(value)
    if wrong.any():
        row, column = map(int, np.argwhere(wrong)[0])
        at = f"{array[row, column]} in row {row}, column {column}"
        if not np.isfinite(array[row, column]):
            raise ValueError(f"{at}: not a finite number")
        masked = np.ma.isMaskedArray(value)
        raise ValueError(f"{at}: {'masked' if masked else 'too large'}")
    return found


def checked(layers: Sequence[Layer], rows: int, reading: Any, largest: float = LARGEST) -> Reading:
    """Return a reading whose arrays are numbers of the right shapes.

    Args:
        layers: of the box.
        rows: R.
        reading: what the box returned.
        largest: magnitude that values may have.

    Raises:
        BoxFailed: naming layer, row and column of what breaks the contract.

    >>> x = np.zeros((2, 3), dtype=np.float32)
    >>> checked([Layer(3, 4)], 2, Reading([Measured(x, x)]))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.BoxFailed: layer 0: activities: shape (2, 3), but (2, 4) was expected \
(see docs/how-to/blackbox.md#the-contract)
    """
    try:
        given = [(measured[0], measured[1]) for measured in reading.layers]
        output = reading.output
    except Exception as error:
        kind = type(reading).__name__
        raise BoxFailed(f"it returned a {kind}, not a Reading ({reason(error)})") from error
    if len(given) != len(layers):
        raise BoxFailed(f"the reading has {len(given)} layers, but the box has {len(layers)}")
    parts = []
    for i, (layer, (inputs, activities)) in enumerate(zip(layers, given, strict=True)):
        parts.append((f"layer {i}: inputs", inputs, layer.inputs))
        parts.append((f"layer {i}: activities", activities, layer.outputs))
    if output is not None:
        parts.append(("output", output, layers[-1].outputs))
    found, faults = [], []
    for name, array, width in parts:
        try:
            found.append(numbers(array, (rows, width), largest))
        except ValueError as error:
            faults.append(f"{name}: {error}")
    if faults:
        more = f"; {len(faults) - NAMED} more faults" if len(faults) > NAMED else ""
        raise BoxFailed("; ".join(faults[:NAMED]) + more)
    measured = [Measured(found[i], found[i + 1]) for i in range(0, 2 * len(layers), 2)]
    return Reading(measured, None if output is None else found[-1])


def run(
    box: Box, weights: Sequence[Weights], x: Array, trial: int, largest: float = LARGEST
) -> tuple[Reading, int]:
    """Run rows of inputs through a box, in as many trials as it needs, and check what it measured.

    Args:
        box: any box.
        weights: one per layer.
        x: inputs (R, n).
        trial: number of the first trial.
        largest: magnitude that measured values may have.

    Returns:
        The reading of all rows, and the number of trials.

    Raises:
        BoxFailed: if the box fails, or a reading breaks the contract.
    """
    layers, most = checked_layers(box.layers), checked_rows(getattr(box, "rows", None))
    if most is None or len(x) <= most:
        return _trial(box, layers, weights, x, trial, largest), 1
    index = split(x, most)
    readings = [
        _trial(box, layers, weights, x[rows], trial + n, largest) for n, rows in enumerate(index)
    ]
    return _joined(readings, np.argsort(np.concatenate(index))), len(index)


def split(x: Array, most: int) -> list[NDArray[np.int64]]:
    """Split rows into trials; the rows of an example in all passes share one, where they fit.

    Args:
        x: inputs (R, n); stacked passes repeat the rows of the first.
        most: rows of a trial, at most.

    Returns:
        The indices of each trial's rows.

    >>> x = np.array([[1.0], [2.0], [3.0]], dtype=np.float32)
    >>> [rows.tolist() for rows in split(np.concatenate([x, x]), most=4)]
    [[0, 1, 3, 4], [2, 5]]
    >>> [rows.tolist() for rows in split(x, most=2)]
    [[0, 1], [2]]
    """
    batch = _period(x)
    each = most // (len(x) // batch)
    if not each:
        batch, each = len(x), most
    passes = np.arange(len(x)).reshape(-1, batch)
    return [passes[:, i : i + each].ravel() for i in range(0, batch, each)]


def _period(x: Array) -> int:
    """Return the number of rows after which all rows repeat."""
    for n in np.flatnonzero((x == x[0]).all(1))[1:].tolist():
        if len(x) % n == 0 and bool((x.reshape(-1, n, x.shape[1]) == x[:n]).all()):
            return int(n)
    return len(x)


def _trial(
    box: Box,
    layers: Sequence[Layer],
    weights: Sequence[Weights],
    x: Array,
    trial: int,
    largest: float,
) -> Reading:
    try:
        reading = box.run(weights, x, trial)
    except NoisynetsError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {reason(error)}"
        raise BoxFailed(f"trial {trial} of the box: {found}") from error
    try:
        return checked(layers, len(x), reading, largest)
    except BoxFailed as error:
        raise BoxFailed(f"trial {trial} of the box: {error}") from error


def _joined(readings: Sequence[Reading], order: NDArray[np.int64]) -> Reading:
    """Put the rows of several readings in the order of the inputs."""
    layers = [
        Measured(*(np.concatenate(parts)[order] for parts in zip(*layer, strict=True)))
        for layer in zip(*(reading.layers for reading in readings), strict=True)
    ]
    outputs = [reading.output for reading in readings if reading.output is not None]
    if len(outputs) not in (0, len(readings)):
        raise BoxFailed("its readings have an output in some trials, and none in others")
    return Reading(layers, np.concatenate(outputs)[order] if outputs else None)
