"""Compare finished runs: a table with mean ± standard deviation over seeds, and a picture.

    python examples/compare_runs.py runs/* --picture comparison.png

Runs that differ only in their seed are combined into one row and one curve.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from noisynets.bench import draw_curves, spread
from noisynets.cli.parser import arguments
from noisynets.core.settings import REQUIRED, setting
from noisynets.run.folder import RunFolder
from noisynets.run.settings import Config, task_of
from noisynets.run.trust import Trust

Group = list[RunFolder]


@dataclass(frozen=True)
class Comparison:
    """The runs to compare."""

    runs: tuple[Path, ...] = setting(
        REQUIRED, "Run folders; unfinished runs are skipped.", positional=True
    )
    picture: Path | None = None
    """PNG to write: validation score against epochs and against sample-forwards."""
    trust: bool = False
    """Read runs whose settings name modules or the commands of boxes, too."""


def grouped(paths: tuple[Path, ...], trust: bool = False) -> dict[Config, Group]:
    """Group finished runs that have a validation score by settings other than seed, best first."""
    groups: dict[Config, Group] = defaultdict(list)
    for path in paths:
        folder = RunFolder(path, Trust(everything=trust))
        summary = folder.summary() or {}
        if not summary.get("diverged", True) and summary.get(f"val_{score(folder)}") is not None:
            groups[replace(folder.config(), seed=0)].append(folder)
    return dict(sorted(groups.items(), key=lambda item: order(item[1])))


def score(folder: RunFolder) -> str:
    """Return the name of the score of a run's task."""
    return task_of(folder.config()).measure.name


def order(folders: Group) -> float:
    """Return the mean validation score with the sign that makes lower better."""
    sign = -1 if task_of(folders[0].config()).measure.higher else 1
    return sign * mean((f.summary() or {})[f"val_{score(f)}"] for f in folders)


def label(config: Config, configs: list[Config]) -> str:
    """Return system, widths and rule, followed by further settings in which groups differ."""
    widths = "-".join(map(str, config.hidden or ()))
    text = f"{config.system} {widths} {config.rule}"
    alike = [c for c in configs if key(c) == key(config)]
    for name, value in asdict(config).items():
        if len({asdict(c)[name] for c in alike}) > 1:
            text += f" {name}={value}"
    return text


def key(config: Config) -> tuple[Any, ...]:
    """Return the settings that every label contains."""
    return config.system, config.hidden, config.rule


def table(groups: dict[Config, Group]) -> str:
    """Return a Markdown table with one row for each group."""
    lines = [
        "| system, widths, rule | seeds | test | train | validation | epochs | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for config, folders in groups.items():
        found: list[dict[str, Any]] = [f.summary() or {} for f in folders]
        name = score(folders[0])
        keys = [f"{part}_{name}" for part in ("test", "train", "val")]
        cells = [spread([s[k] for s in found if s[k] is not None], name) for k in keys]
        seconds = mean(s["seconds"] for s in found)
        lines.append(
            f"| {label(config, list(groups))} | {len(folders)} | {' | '.join(cells)} "
            f"| {config.epochs} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main(comparison: Comparison) -> None:
    """Print the table and draw the picture."""
    groups = grouped(comparison.runs, comparison.trust)
    if not groups:
        raise SystemExit("none of these runs has finished with a validation score")
    print(table(groups))
    if comparison.picture is not None:
        labels = {label(config, list(groups)): folders for config, folders in groups.items()}
        draw_curves(comparison.picture, {"": labels})


if __name__ == "__main__":
    main(arguments(Comparison))
