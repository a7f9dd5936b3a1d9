"""The contract between trainer and box: weights and inputs sent, measurements returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Layer(NamedTuple):
    """Sizes of a layer of a box, which multiplies its inputs with its weights."""

    inputs: int
    outputs: int


class Weights(NamedTuple):
    """Weights to program into a layer: weight (outputs, inputs) and bias (outputs,)."""

    weight: Array
    bias: Array


class Measured(NamedTuple):
    """Measurements at a layer: its inputs (R, inputs) and its activities (R, outputs).

    Activities are the outputs of a layer before its units; the units' outputs are the inputs of the
    next layer. A box that runs over time, such as a spiking one, returns means over the trial.
    """

    inputs: Array
    activities: Array


class Reading(NamedTuple):
    """Measurements of one trial with R rows of inputs.

    Attributes:
        layers: measurements at every layer, from the inputs to the output.
        output: (R, outputs), if units follow the last layer; None: the last layer's activities.
    """

    layers: Sequence[Measured]
    output: Array | None = None


class Box(Protocol):
    """Hardware or a simulator outside PyTorch.

    A box may have an attribute `rows`, the most rows that `run` takes at a time. More rows are then
    split into several trials, with a number each.
    """

    @property
    def layers(self) -> Sequence[Layer]:
        """Sizes, from first to last; each layer has as many inputs as the previous has outputs."""

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Program the layers, run rows of inputs through them, and measure.

        The noise must be independent in every row.

        Args:
            weights: one per layer.
            x: inputs (R, n).
            trial: number of the run, from 0. A simulator should seed its noise with it, so that a
                trial repeated after a crash gives the same bits; hardware can ignore it.

        Returns:
            The measurements, as arrays of numbers; float32 is not converted.

        Raises:
            BoxFailed: if the box cannot continue.
        """
