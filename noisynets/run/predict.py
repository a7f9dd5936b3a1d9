"""Predictions of a trained system for inputs of a user's own."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from noisynets.core.arrays import npz, read_npz
from noisynets.core.errors import InputError
from noisynets.core.noise import Stream
from noisynets.core.reading import memory
from noisynets.run.data import load_data
from noisynets.run.evaluate import EVALUATION, evaluating, evaluation_batch
from noisynets.run.session import Session
from noisynets.run.settings import DTYPES, seeds
from noisynets.tasks.data import Examples, Inputs, Task

ADVICE = "an .npz file with an array x is needed"


@dataclass(frozen=True)
class Predictions:
    """What a system has put out.

    Attributes:
        names: of the inputs.
        output: (n, classes) scores of the classes; or (n, outputs) values, in units of the targets.
        labels: names of the classes; (): the outputs are values.
    """

    names: list[str]
    output: Tensor
    labels: tuple[str, ...]

    @property
    def chosen(self) -> list[str]:
        """The names of the classes with the largest scores."""
        return [self.labels[i] for i in self.output.argmax(1).tolist()]


def read_inputs(task: Task, path: Path) -> Inputs:
    """Read inputs for a task: its own kind of files, or an .npz file with x (n, ...).

    Args:
        task: that was learned.
        path: of the file, or of a folder of pictures.

    Raises:
        InputError: if they cannot be read, or have another shape.
    """
    if task.own is not None:
        return task.own.inputs(path)
    if task.world is not None or task.vocabulary:
        raise InputError(f"{task.name}: predict is for examples, not for episodes or texts")
    x = read_npz(path, limit=memory() // 8, what=str(path), names=("x",), advice=ADVICE)["x"]
    shape = (task.steps, *task.input_shape) if task.steps else task.input_shape
    if x.dtype.kind not in "biuf" or x.shape[1:] != shape or not x.size:
        raise InputError(f"{path}: x is {x.dtype} {x.shape}; needed are numbers (n, *{shape})")
    found = torch.from_numpy(x)
    found = found if found.dtype in (torch.uint8, torch.int8) else found.float()
    if found.is_floating_point() and not bool(found.isfinite().all()):
        raise InputError(f"{path}: x contains NaN or infinity: clean the data first")
    return found, [f"row {i}" for i in range(len(x))]


def predict(session: Session, inputs: Inputs) -> Predictions:
    """Return what a trained system puts out, in its own noise.

    Args:
        session: of the run.
        inputs: as `read_inputs` returns them.
    """
    config, task = session.config, session.task
    x, names = inputs
    examples = Examples(x, torch.zeros(len(x), dtype=torch.int64))
    if config.standardise:
        scale = load_data(config)[0].scale
        examples = Examples(examples.x, examples.y, scale)
    examples = examples.to(torch.device(config.device))
    stream = Stream(seeds(config)["encoding"], EVALUATION)
    made = []
    with torch.no_grad(), evaluating(session.system):
        for batch, _ in examples.batches(evaluation_batch(task), DTYPES[config.dtype]):
            made.append(session.system(session.encode(batch, stream)).double().cpu())
    output = torch.cat(made)
    numbers = task.measure.each is not None
    if task.own is not None and task.own.target is not None:
        mean, deviation = task.own.target
        output = output * deviation.double() + mean.double()
    return Predictions(names, output, () if numbers else task.class_names)


def written(found: Predictions, path: Path) -> bytes:
    """Return predictions as the bytes of a .csv or .npz file.

    Raises:
        InputError: for another ending.
    """
    if path.suffix == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["input", *_columns(found)])
        writer.writerows(_rows(found))
        return text.getvalue().encode()
    if path.suffix != ".npz":
        raise InputError(f"--out {path}: must end with .csv or .npz")
    import numpy as np

    arrays = {"input": np.array(found.names), "output": found.output.numpy()}
    if found.labels:
        arrays |= {"prediction": np.array(found.chosen), "labels": np.array(found.labels)}
    return npz(arrays)


def _columns(found: Predictions) -> list[str]:
    if found.labels:
        return ["prediction", *(f"probability of {label}" for label in found.labels)]
    return [f"value {i}" for i in range(found.output.shape[1])]


def _rows(found: Predictions) -> Sequence[list[str | float]]:
    numbers = found.output.softmax(1) if found.labels else found.output
    cells = [[f"{value:.6g}" for value in row] for row in numbers.tolist()]
    chosen = [[label] for label in found.chosen] if found.labels else [[] for _ in cells]
    return [[n, *c, *row] for n, c, row in zip(found.names, chosen, cells, strict=True)]
