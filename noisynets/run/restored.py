"""Checks of a state that is restored, of what no module checks by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from noisynets.core.errors import InputError


def check_vocabulary(learned: str, now: str) -> None:
    """Check that a text has the characters of the text that was learned, in their order.

    Raises:
        InputError: if it has not.
    """
    if learned != now:
        differing = [f"{c!r}" for c in sorted({*learned} ^ {*now})[:5]]
        raise InputError(
            f"the text has {len(now)} different characters, that of the checkpoint "
            f"{len(learned)} (not in both: {', '.join(differing)}): give the text that was learned"
        )


def check_files(learned: str, now: str) -> None:
    """Check that a user's own files are as they were when the run began.

    Args:
        learned: checksum of the examples of the checkpoint; '': of another kind of task.
        now: checksum of the examples.

    Raises:
        InputError: if it is another one.
    """
    if learned != now:
        raise InputError(
            "the task's files have changed since the run began: restore them, or start another run"
        )


def check_progress(values: dict[str, Any], columns: Sequence[str]) -> None:
    """Check the types of a run's progress.

    Args:
        values: of its fields.
        columns: of a row of metrics.csv.

    Raises:
        ValueError: if one of them is no such number, or not as many rows as epochs are there.
    """
    for name in ("epoch", "step", "sample_forwards", "seconds"):
        value = values[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (name == "seconds" and isinstance(value, float))) or not value >= 0:
            raise ValueError(f"{name} = {value!r} is no number of at least 0")
    if not isinstance(values["first_loss"], float):
        raise ValueError(f"first_loss = {values['first_loss']!r} is no number")
    notes = values.get("notes", {})
    if not isinstance(notes, dict) or not all(isinstance(n, str) for n in notes.values()):
        raise ValueError("notes are no table of texts")
    rows = values["rows"]
    if not isinstance(rows, list) or len(rows) != values["epoch"]:
        raise ValueError("there is not one row of metrics per epoch")
    for row in rows:
        if not isinstance(row, dict) or tuple(row) != tuple(columns):
            raise ValueError(f"a row of metrics has not the columns {', '.join(columns)}")
        for name, value in row.items():
            absent = value is None and name.startswith("val_")
            if not absent and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name} = {value!r} in a row of metrics is no number")


def check_optimiser(values: dict[str, Any], optimiser: Optimizer) -> None:
    """Check the state of an optimiser: its settings, and one value or as many as weights.

    Args:
        values: the state.
        optimiser: to which it is given.

    Raises:
        ValueError: if they differ in kind or shape.
    """
    groups = optimiser.state_dict()["param_groups"]
    for given, own in zip(values["param_groups"], groups, strict=True):
        for name, value in own.items():
            if type(given[name]) is not type(value) and not _numbers(given[name], value):
                raise ValueError(f"{name} = {given[name]!r} is no setting of the optimiser")
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    for index, state in values["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape != weights[index].shape:
                raise ValueError(f"{name} of weight {index} has shape {tuple(value.shape)}")


def _numbers(*values: Any) -> bool:
    return all(
        isinstance(v, int | float | list | tuple) and not isinstance(v, bool) for v in values
    )
