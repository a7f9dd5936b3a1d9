"""Spiking networks on all their tasks: every rule, its controls and backpropagation through time.

    python examples/spiking_table.py --data-dir EVENTS.npz

Runs that have ended are not run again, and those that were stopped go on. The Markdown table at the
end is the one in docs/results/spiking.md; learning rates were chosen on validation by tune.py.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from noisynets.config import Config, resolve, task_of
from noisynets.errors import Diverged
from noisynets.train import finished


@dataclass(frozen=True)
class Row:
    """A network on a task, and the learning rate of every rule."""

    base: Config
    lrs: dict[str, float]


MNIST = Config(system="noisy-lif", epochs=3)
YIN_YANG = Config(task="yinyang", system="lif", hidden=(30,), epochs=60, batch_size=50)
RANDMAN = Config(task="randman", system="lif", hidden=(128,), epochs=8)
MACKEY_GLASS = Config(task="mackey-glass", system="lif", hidden=(256,), epochs=200, batch_size=50)
EVENTS = Config(
    task="events",
    system="noisy-lif",
    hidden=(128, 128),
    steps=25,
    threshold=4.0,
    credit_over="trial",
    epochs=40,
    batch_size=24,
)
ROWS = {
    "MNIST, 256": Row(
        MNIST,
        dict(anp=1e-3, danp=3e-3, learned=1e-2, mirrored=5e-3)
        | dict(frozen=3e-2, dfa=5e-3, fa=1e-2, bp=2e-3),
    ),
    "MNIST, 256-256": Row(
        replace(MNIST, hidden=(256, 256)),
        dict(anp=1e-3, learned=5e-3, mirrored=2e-3, frozen=3e-2, dfa=5e-3, fa=5e-3, bp=2e-3),
    ),
    "Yin-Yang, 30": Row(YIN_YANG, dict(anp=3e-2, mirrored=1e-2, frozen=3e-2, dfa=3e-2, bp=3e-2)),
    "Randman, 128": Row(RANDMAN, dict(anp=3e-3, mirrored=1e-2, frozen=1e-2, dfa=1e-2, bp=1e-2)),
    "Mackey-Glass, 256": Row(
        MACKEY_GLASS, dict(anp=3e-2, mirrored=1e-2, frozen=3e-2, dfa=1e-2, bp=3e-2)
    ),
    "Events, 128-128": Row(
        EVENTS, dict(anp=3e-3, mirrored=1e-2, frozen=1e-1, dfa=1e-2, fa=3e-3, bp=3e-3)
    ),
}


@dataclass(frozen=True)
class Settings:
    """What to run."""

    data_dir: Path | None = None
    """The .npz file of events; without one there is no such row."""
    rows: tuple[str, ...] = ()
    """Beginnings of the names of rows; all if none are given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights, the noise and the order of examples."""
    jobs: int = 2
    """Runs at a time."""
    out: Path = Path("runs/spiking")
    """Where the run folders go."""


def jobs(s: Settings) -> Iterator[tuple[str, str, Config, Path]]:
    """Every run: row, rule, settings and folder."""
    for name, row in ROWS.items():
        events = row.base.task == "events"
        if (s.rows and not name.startswith(s.rows)) or (events and s.data_dir is None):
            continue
        folder = str(s.data_dir) if events else None
        for rule, lr in row.lrs.items():
            for seed in s.seeds:
                settings = {"rule": rule, "lr": lr, "seed": seed, "data_dir": folder, "threads": 1}
                over = {"credit_over": None} if rule == "bp" else {}  # it knows every step
                config = resolve(replace(row.base, **settings, **over))
                short = "".join(c if c.isalnum() else "-" for c in name)
                yield name, rule, config, s.out / f"{short}-{rule}-{seed}"


def run(job: tuple[str, str, Config, Path]) -> dict[str, Any] | None:
    """The summary of one run; None if it diverged."""
    _, _, config, path = job
    try:
        return finished(path, config)
    except Diverged:
        return None


def cell(summaries: list[dict[str, Any] | None], config: Config, part: str) -> str:
    """Mean ± standard deviation over seeds, accuracies in percent."""
    if None in summaries:
        return "diverged"
    task = task_of(config)
    closing = task.closing if part == "test" else None
    name = closing.name if closing else task.measure.name
    factor, digits = (100, 2) if name == "accuracy" else (1, 2 if closing else 5)
    values = [factor * (s or {})[f"{part}_{name}"] for s in summaries]
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def main(s: Settings) -> None:
    """Run what is left to run, and print the table."""
    todo = list(jobs(s))
    with multiprocessing.get_context("spawn").Pool(s.jobs) as pool:
        found: dict[tuple[str, str], list[Any]] = {}
        for job, summary in zip(todo, pool.imap(run, todo), strict=True):
            found.setdefault(job[:2], []).append((job[2], summary))
            print(job[3], flush=True)
    print("\n| task, hidden layers | rule | lr | test | train |\n|---|---|---|---|---|")
    for (name, rule), runs in found.items():
        config, summaries = runs[0][0], [summary for _, summary in runs]
        cells = [cell(summaries, config, part) for part in ("test", "train")]
        print(f"| {name} | {rule} | {config.lr:g} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Settings))
