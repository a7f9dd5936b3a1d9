"""Comparison of runs: the settings in which they differ, their results, and their curves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisynets.core.captions import literal
from noisynets.core.errors import InputError
from noisynets.core.values import options, value
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import RunFolder
from noisynets.run.settings import Config, task_of
from noisynets.tasks.data import Measure

RESULTS = ("epoch", "sample_forwards", "seconds")
"""Values of summary.json that are shown beside the scores."""


@dataclass(frozen=True)
class Compared:
    """A run that is compared.

    Attributes:
        name: shortest ending of its path that no other run has.
        config: its settings.
        summary: contents of summary.json; None: it has not ended.
        rows: of metrics.csv; none, if no epoch has ended.
        measure: of its task.
    """

    name: str
    config: Config
    summary: dict[str, Any] | None
    rows: list[dict[str, float | None]]
    measure: Measure


def read_runs(folders: Sequence[RunFolder]) -> list[Compared]:
    """Read runs that are to be compared.

    Raises:
        InputError: for less than two, for one that is named twice or cannot be read, or if their
            tasks have different scores.
    """
    paths = [folder.path.absolute() for folder in folders]
    if len(set(paths)) < 2 or len(set(paths)) < len(paths):
        raise InputError("compare needs at least two different runs: noisynets compare RUN RUN")
    found = [_read(f, n) for f, n in zip(folders, _names(paths), strict=True)]
    scores = sorted({run.measure.name for run in found})
    if len(scores) > 1:
        raise InputError(f"the runs have different scores ({', '.join(scores)}): compare like ones")
    return found


def _read(folder: RunFolder, name: str) -> Compared:
    config = folder.config()
    measure = task_of(config).measure
    there = (folder.path / "metrics.csv").is_file()
    rows = folder.metrics(measure.name) if there else []
    return Compared(name, config, folder.summary(), rows, measure)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest endings that tell paths apart.

    >>> _names([Path("/a/one/x"), Path("/a/two/x")])
    ['one/x', 'two/x']
    """
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def differences(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """Return the settings in which runs differ: option → its value in each run."""
    found = {}
    for name, option in options(Config).items():
        values = [_shown(value(run.config, name)) for run in runs]
        if len(set(values)) > 1:
            found[name if option.setting.positional else option.flag] = values
    return found


def results(runs: Sequence[Compared]) -> dict[str, list[str]]:
    """Return the results: name → its value in each run; '–' where there is none."""
    score = runs[0].measure.name
    names = [f"{part}_{score}" for part in ("test", "val", "train")]
    found = {"state": [_state(run) for run in runs]}
    for name in (*names, *RESULTS):
        found[name] = [_shown((run.summary or {}).get(name)) for run in runs]
    return found


def _state(run: Compared) -> str:
    if run.summary is None:
        return f"epoch {len(run.rows)} of {run.config.epochs}"
    return "diverged" if run.summary["diverged"] else "ended"


def _shown(found: Any) -> str:
    if found is None:
        return "–"
    if isinstance(found, tuple):
        return " ".join(map(_shown, found)) or "–"
    return f"{found:.5g}" if isinstance(found, float) else str(found)


def markdown(runs: Sequence[Compared]) -> str:
    """Return the table of what differs and of the results, a column per run."""
    rows = {**differences(runs), **results(runs)}
    lines = [["", *(run.name for run in runs)], *([name, *cells] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    made = [" | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    made.insert(1, " | ".join("-" * max(3, width) for width in widths))
    return "\n".join(f"| {line} |" for line in made)


def draw(path: Path, runs: Sequence[Compared]) -> None:
    """Draw loss and score of all runs against epochs, as a PNG: one colour per run.

    Args:
        path: of the picture.
        runs: with one or more epochs each; others are left out.

    Raises:
        InputError: if no run has an epoch.
    """
    from matplotlib.figure import Figure

    drawn = [run for run in runs if run.rows]
    if not drawn:
        raise InputError("no run has finished an epoch: there are no curves to draw")
    score = drawn[0].measure.name
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for i, run in enumerate(drawn):
        axes[0].plot([], [], color=f"C{i % 10}", label=literal(run.name))
        for kind, place in (("loss", axes[0]), (score, axes[1])):
            for part, style in (("train", ":"), ("val", "-")):
                values = [row[f"{part}_{kind}"] for row in run.rows]
                if None not in values:
                    epochs = [row["epoch"] for row in run.rows]
                    place.plot(epochs, values, style, color=f"C{i % 10}", marker=".")
    axes[0].set(xlabel="epoch", ylabel="loss (dotted: training; solid: validation)")
    axes[1].set(xlabel="epoch", ylabel=score)
    for place in axes:
        place.grid(alpha=0.3)
        place.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())
