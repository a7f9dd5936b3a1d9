"""Put finished runs side by side: a table of mean ± standard deviation over seeds, and a picture.

    python examples/compare_runs.py runs/* --picture comparison.png

Runs that differ in nothing but their seed make one row and one curve.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib import colormaps
from matplotlib.figure import Figure

from noisynets.config import Config, task_of
from noisynets.run_folder import RunFolder

Group = list[RunFolder]


@dataclass(frozen=True)
class Comparison:
    """Which runs, and where the picture goes."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders; those that have not ended are left out."""
    picture: Path | None = None
    """PNG with the score on validation against epochs and against sample-forwards."""


def grouped(paths: tuple[Path, ...]) -> dict[Config, Group]:
    """Ended runs with a validation set, by their settings, whatever the seed; the best first."""
    groups: dict[Config, Group] = defaultdict(list)
    for path in paths:
        folder = RunFolder(path)
        summary = folder.summary() or {}
        if not summary.get("diverged", True) and summary.get(f"val_{score(folder)}") is not None:
            groups[replace(folder.config(), seed=0)].append(folder)
    return dict(sorted(groups.items(), key=lambda item: judged(item[1])))


def score(folder: RunFolder) -> str:
    """Name of what the run's task is judged by."""
    return task_of(folder.config()).measure.name


def judged(folders: Group) -> float:
    """Mean score on validation, the less the better."""
    better = -1 if task_of(folders[0].config()).measure.higher else 1
    return better * mean((f.summary() or {})[f"val_{score(f)}"] for f in folders)


def label(config: Config, configs: list[Config]) -> str:
    """System, widths and rule, then whatever else tells the groups apart."""
    widths = "-".join(map(str, config.hidden or ()))
    text = f"{config.system} {widths} {config.rule}"
    twins = [c for c in configs if (c.system, c.hidden, c.rule) == key(config)]
    for name, value in asdict(config).items():
        if len({asdict(c)[name] for c in twins}) > 1:
            text += f" {name}={value}"
    return text


def key(config: Config) -> tuple[Any, ...]:
    """What a label always names."""
    return config.system, config.hidden, config.rule


def spread(values: list[float], percent: bool) -> str:
    """Mean ± standard deviation."""
    if not values:
        return "–"
    factor, digits = (100, 2) if percent else (1, 4)
    deviation = f" ± {factor * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * mean(values):.{digits}f}{deviation}"


def table(groups: dict[Config, Group]) -> str:
    """Markdown, a row per group."""
    lines = [
        "| system, widths, rule | seeds | test | train | validation | epochs | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for config, folders in groups.items():
        found: list[dict[str, Any]] = [f.summary() or {} for f in folders]
        name = score(folders[0])
        keys = [f"{part}_{name}" for part in ("test", "train", "val")]
        percent = name == "accuracy"
        cells = [spread([s[k] for s in found if s[k] is not None], percent) for k in keys]
        seconds = mean(s["seconds"] for s in found)
        lines.append(
            f"| {label(config, list(groups))} | {len(folders)} | {' | '.join(cells)} "
            f"| {config.epochs} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def draw(groups: dict[Config, Group], path: Path) -> None:
    """Mean score on validation, with the range over seeds as a band; one score for all."""
    name = score(next(iter(groups.values()))[0])
    if any(score(folders[0]) != name for folders in groups.values()):
        raise SystemExit("runs that are judged by different scores do not fit in one picture")
    factor = 100 if name == "accuracy" else 1
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    colors = colormaps["turbo"](np.linspace(0.95, 0.05, len(groups)))
    for color, (config, folders) in zip(colors, groups.items(), strict=True):
        runs = [
            list(csv.DictReader((f.path / "metrics.csv").read_text().splitlines())) for f in folders
        ]
        curves = [[factor * float(row[f"val_{name}"]) for row in run] for run in runs]
        for axes, column in ((left, "epoch"), (right, "sample_forwards")):
            x = [int(row[column]) for row in runs[0]]
            by_epoch = list(zip(*curves, strict=True))
            text = label(config, list(groups)) if axes is left else None
            (line,) = axes.plot(x, [mean(c) for c in by_epoch], label=text, color=color)
            low, high = [min(c) for c in by_epoch], [max(c) for c in by_epoch]
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, lw=0)
    left.set(xlabel="epoch", ylabel=f"validation {name}{' (%)' if factor == 100 else ''}")
    if factor == 100:
        left.set_ylim(80, 100)
    right.set(xlabel="forward passes × samples", xscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)


def main(comparison: Comparison) -> None:
    """Print the table and draw the picture."""
    groups = grouped(comparison.runs)
    if not groups:
        raise SystemExit("no run among these has ended with a score on validation")
    print(table(groups))
    if comparison.picture is not None:
        draw(groups, comparison.picture)


if __name__ == "__main__":
    main(tyro.cli(Comparison))
