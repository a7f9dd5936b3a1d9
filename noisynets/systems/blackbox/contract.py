"""The contract by which hardware and simulators join: what a box is given, and what it measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Layer(NamedTuple):
    """Sizes of a layer of a box: a product with weights, whatever the box makes of it."""

    inputs: int
    outputs: int


class Weights(NamedTuple):
    """What a layer is programmed with: weight (outputs, inputs) and bias (outputs,)."""

    weight: Array
    bias: Array


class Measured(NamedTuple):
    """What was measured at a layer: what entered it (R, inputs), and its activities (R, outputs).

    Activities are what leaves the layer before its units act; what enters the next layer is what
    the units made of them. A box that lives in time gives means over a trial.
    """

    inputs: Array
    activities: Array


class Reading(NamedTuple):
    """What a box gives back for R rows of inputs.

    Attributes:
        layers: from the inputs to the output.
        output: (R, outputs), where units follow the last layer; None: its activities.
    """

    layers: Sequence[Measured]
    output: Array | None = None


class Box(Protocol):
    """A system that torch does not see."""

    @property
    def layers(self) -> Sequence[Layer]:
        """From the inputs to the output; each is as wide as the next one's inputs."""

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Program the layers, run rows of inputs x (R, n) through them, and measure.

        Every row carries noise of its own.

        Args:
            weights: one per layer.
            x: inputs (R, n).
            trial: number of the run, from 0. A simulator draws its noise from it, so that a trial
                that is repeated after a crash is the same bit by bit; a device can ignore it.

        Raises:
            BoxFailed: where the box cannot go on.
        """


def problems(layers: Sequence[Layer], rows: int, reading: Reading) -> list[str]:
    """Name what is wrong with a reading: numbers of layers, shapes, values.

    >>> x = np.zeros((2, 3), dtype=np.float32)
    >>> problems([Layer(3, 4)], 2, Reading([Measured(x, x)]))
    ['layer 0: activities of shape (2, 3) where (2, 4) was expected']
    """
    if len(reading.layers) != len(layers):
        return [f"the reading has {len(reading.layers)} layers, but the box has {len(layers)}"]
    parts = []
    for i, (layer, measured) in enumerate(zip(layers, reading.layers, strict=True)):
        parts.append((f"layer {i}: inputs", measured.inputs, layer.inputs))
        parts.append((f"layer {i}: activities", measured.activities, layer.outputs))
    if reading.output is not None:
        parts.append(("output", reading.output, layers[-1].outputs))
    found = []
    for name, array, width in parts:
        if np.shape(array) != (rows, width):
            found.append(f"{name} of shape {np.shape(array)}, but {(rows, width)} was expected")
        elif not np.isfinite(array).all():
            row, node = map(int, np.argwhere(~np.isfinite(array))[0])
            value = array[row, node]
            found.append(f"{name}: {value} in row {row}, column {node}: not a finite number")
    return found
