"""The table of layers of a run that was diagnosed, from its diagnose.json."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.reading import read_json
from noisynets.diagnose.statistics import ENDLESS
from noisynets.diagnose.table import COLUMNS
from noisynets.run.folder import LONGEST, RunFolder
from noisynets.run.page import Block, Line, Notes, Table, bars, curves

FILE = "diagnose.json"
ADVICE = "remove it, or diagnose the run again"
WORDS = {
    "SNR": "signal to noise",
    "share of dL": "share of δL",
    "map R2": "map R²",
    "best R2": "best R²",
}
"""Names of measures where there is room for them."""
PLOTTED = {"snr": "y", "cosine": ""}
"""Measures that are plotted, and which axes of theirs are logarithmic."""


@dataclass(frozen=True)
class Diagnosis:
    """What a report shows of a diagnosis.

    Attributes:
        advice: one sentence or more.
        steps: of training before it.
        loss: mean loss; None: it was not finite.
        names: of the layers.
        measures: of each layer, by the keys of `COLUMNS`.
        trials: learning rate and last loss of short runs.
        notes: warnings.
    """

    advice: str
    steps: int
    loss: float | None
    names: tuple[str, ...]
    measures: tuple[dict[str, float | None], ...]
    trials: tuple[tuple[float, float | None], ...]
    notes: tuple[str, ...]


def layers(folder: RunFolder) -> tuple[Block, ...]:
    """Return the advice and the table of a diagnosis, with plots; without one, how to make it.

    Raises:
        InputError: if diagnose.json is damaged.
    """
    file = folder.path / FILE
    if not file.is_file():
        return (Notes((f"This run was not diagnosed: noisynets report {folder.path} --diagnose",)),)
    values = read_json(file, limit=LONGEST, advice=ADVICE)
    try:
        found = diagnosis(values)
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: is no diagnosis of this version: {ADVICE}") from error
    return _blocks(found)


def diagnosis(values: Any) -> Diagnosis:
    """Read a diagnosis from the values of diagnose.json.

    Raises:
        KeyError: if something is missing.
        TypeError: if something has another type.
    """
    nodes = [{key: _number(node[key]) for key in COLUMNS.values()} for node in values["nodes"]]
    trials = [(_number(t["lr"]), _number(t["last"])) for t in values["trials"]]
    return Diagnosis(
        advice=_text(values["advice"]),
        steps=int(_number(values["steps"]) or 0),
        loss=_number(values["loss"]),
        names=tuple(_text(node["name"]) for node in values["nodes"]),
        measures=tuple(nodes),
        trials=tuple((lr, last) for lr, last in trials if lr is not None),
        notes=tuple(_text(note) for note in values["notes"]),
    )


def _blocks(found: Diagnosis) -> tuple[Block, ...]:
    """Return the advice, the table, and plots of what matters most."""
    shown = {
        head: key
        for head, key in COLUMNS.items()
        if any(measures[key] is not None for measures in found.measures)
    }
    heads = ("layer", *(WORDS.get(head, head) for head in shown))
    rows = tuple(
        (name, *(_cell(key, measures[key]) for key in shown.values()))
        for name, measures in zip(found.names, found.measures, strict=True)
    )
    what = f"Measures of every layer after {found.steps:,} steps, loss {_cell('', found.loss)}"
    blocks: list[Block] = [
        Notes((f"Advice: {found.advice}",)),
        Table(f"{what} (docs/how-to/diagnose.md explains them)", heads, rows),
    ]
    for head, key in shown.items():
        if key in PLOTTED:
            heights = [measures[key] for measures in found.measures]
            heights = [None if x is None or x >= ENDLESS else x for x in heights]
            label, logs = WORDS.get(head, head), PLOTTED[key]
            what = f"{label.capitalize()} by layer"
            blocks.append(bars(what, found.names, heights, "layer", label, logs=logs))
    if found.trials:
        line = Line("loss", [lr for lr, _ in found.trials], [last for _, last in found.trials])
        what = "Loss in short runs against their learning rate"
        blocks.append(curves(what, [line], "learning rate", "loss", logs="xy"))
    return (*blocks, Notes(found.notes, warn=True)) if found.notes else tuple(blocks)


def _number(value: Any) -> float | None:
    """Return a number or None; refuse anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value) if abs(value) < math.inf else None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _cell(key: str, number: float | None) -> str:
    """Format one measure."""
    if number is None:
        return "–"
    if key == "dead":
        return f"{number:.0%}"
    return "no noise" if key == "snr" and number >= ENDLESS else f"{number:.3g}"
