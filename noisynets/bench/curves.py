"""Curves of the rules of a benchmark, from the metrics of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from noisynets.bench.table import Row
from noisynets.core.errors import InputError
from noisynets.run.folder import RunFolder
from noisynets.run.page import Block, Line, curves
from noisynets.run.settings import task_of
from noisynets.run.trust import NotTrusted, Trust
from noisynets.tasks.data import ACCURACY, Measure


def curves_of(
    path: Path, groups: Mapping[tuple[str, str], Sequence[Row]], rules: Sequence[str], trust: Trust
) -> tuple[list[Block], list[str]]:
    """Return validation scores by epoch and by passes, and what is missing for some.

    Args:
        path: folder of the benchmark.
        groups: runs of the comparison by case and rule.
        rules: all of them, by whose order lines are coloured.
        trust: permission to import what the settings of the runs name.

    Raises:
        NotTrusted: without it.
    """
    blocks: list[Block] = []
    missing: list[str] = []
    for case in dict.fromkeys(case for case, _ in groups):
        lines: dict[str, list[Line]] = {"epoch": [], "sample_forwards": []}
        measure: Measure | None = None
        for (_, rule), own in ((key, own) for key, own in groups.items() if key[0] == case):
            folders = [RunFolder(path / row.path, trust) for row in own if not row.diverged]
            try:
                measure = _measure(folders) or measure
                for column, found in lines.items():
                    found += _lines(folders, rule, column, rules.index(rule))
            except NotTrusted:
                raise
            except InputError as error:
                missing.append(f"{case}, {rule}: {error}")
        if measure is None or not any(lines.values()):
            continue
        score, logs = measure.name.replace("_", " "), "" if measure.higher else "y"
        label = f"validation {score}{' (%)' if measure is ACCURACY else ''}"
        what = f"{case}: validation {score}; line: mean over seeds, band: range"
        passes = "forward passes × samples"
        blocks += [
            curves(f"{what}, by epoch", lines["epoch"], "epoch", label, logs=logs, height=380),
            curves(
                f"{what}, by {passes}", lines["sample_forwards"], passes, label,
                logs=f"x{logs}", height=380,
            ),
        ]  # fmt: skip
    return blocks, missing


def _measure(folders: Sequence[RunFolder]) -> Measure | None:
    return task_of(folders[0].config("cpu")).measure if folders else None


def _lines(folders: Sequence[RunFolder], rule: str, column: str, colour: int) -> list[Line]:
    """Return the line of a rule, with the range over its seeds; none without validation."""
    measure = _measure(folders)
    if measure is None:
        return []
    factor = 100 if measure is ACCURACY else 1
    runs = [folder.metrics(measure.name) for folder in folders]
    epochs = min(map(len, runs))
    values = [[run[i][f"val_{measure.name}"] for run in runs] for i in range(epochs)]
    known = [[factor * v for v in seeds if v is not None] for seeds in values]
    if not known or any(len(seeds) < len(runs) for seeds in known):
        return []
    x = [row[column] or 0.0 for row in runs[0][:epochs]]
    low, high = [min(v) for v in known], [max(v) for v in known]
    band = (low, high) if len(runs) > 1 and epochs > 1 else ((), ())
    return [Line(rule, x, [mean(v) for v in known], low=band[0], high=band[1], colour=colour)]
