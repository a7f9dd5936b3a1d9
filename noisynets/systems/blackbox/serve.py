"""The box's side of the pipes: answers trials on standard input and output.

A box in Python calls `serve(box)`; a box in another language implements the messages of
docs/how-to/blackbox.md. As a command, `python -m noisynets.systems.blackbox.serve` serves a
simulated chip.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from noisynets.systems.blackbox import frames
from noisynets.systems.blackbox.contract import Box, Reading, Weights
from noisynets.systems.blackbox.numpy_chip import UNITS, NumpyChip, SpikingChip
from noisynets.systems.blackbox.tiles import Distortions


def serve(box: Box) -> None:
    """Answer requests until standard input is closed; `print` goes to standard error meanwhile."""
    with _streams() as (given, answered):
        greeting = {"layers": np.array(box.layers, dtype=np.int64)}
        rows = getattr(box, "rows", None)
        frames.write(answered, greeting if rows is None else greeting | {"rows": np.array(rows)})
        while (message := frames.read(given)) is not None:
            try:
                answer = respond(box, message)
            except Exception as error:  # any error of the box is sent to the trainer
                answer = {"error": np.array(f"{type(error).__name__}: {error}")}
            frames.write(answered, answer | {"trial": message["trial"]})


def request(weights: list[Weights], x: Any, trial: int) -> dict[str, Any]:
    """Return the message that requests a trial."""
    message = {"trial": np.array(trial, dtype=np.int64), "x": x}
    for i, layer in enumerate(weights):
        message |= {f"weight{i}": layer.weight, f"bias{i}": layer.bias}
    return message


def respond(box: Box, message: dict[str, Any]) -> dict[str, Any]:
    """Run the trial of a request, and return the message with the measurements."""
    weights = [Weights(message[f"weight{i}"], message[f"bias{i}"]) for i in range(len(box.layers))]
    reading: Reading = box.run(weights, message["x"], int(message["trial"]))
    answer = {} if reading.output is None else {"output": reading.output}
    for i, layer in enumerate(reading.layers):
        answer |= {f"inputs{i}": layer.inputs, f"activities{i}": layer.activities}
    return answer


@contextmanager
def _streams() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Reserve standard input and output for messages; redirect `print` to standard error."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(own, "wb", closefd=False) as answered:
            yield sys.stdin.buffer, answered
    finally:
        os.dup2(own, 1)
        os.close(own)


def main(
    widths: Sequence[int] = (784, 256, 256, 10),
    unit: str = "leaky",
    slope: float = 0.2,
    spread: float = 0.3,
    read_noise: float = 0.1,
    chip: int = 0,
    seed: int = 0,
) -> None:
    """Serve a simulated chip in NumPy.

    Args:
        widths: numbers of inputs and of the outputs of every layer.
        unit: leaky, sign or lif.
        slope: of leaky units for negative activities.
        spread: standard deviation of the relative weight errors, log gains and offsets.
        read_noise: standard deviation of the noise in every activity.
        chip: number of the chip, the seed of its fixed distortions.
        seed: of the noise.
    """
    distortions = Distortions.of(spread, read_noise)
    if unit in UNITS:
        serve(NumpyChip(widths, distortions, unit=unit, slope=slope, chip=chip, seed=seed))
    else:
        serve(SpikingChip(widths, distortions, chip=chip, seed=seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve a simulated chip in NumPy.")
    parser.add_argument("--widths", type=int, nargs="+", default=[784, 256, 256, 10])
    parser.add_argument("--unit", default="leaky")
    for name, default in (("slope", 0.2), ("spread", 0.3), ("read-noise", 0.1)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name in ("chip", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    main(**vars(parser.parse_args()))
    os._exit(0)  # unloading torch would take longer than the second that a box has to end
