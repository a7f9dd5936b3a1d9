"""Curves of a run: loss, score, learning rate, and what they have cost."""

from __future__ import annotations

from collections.abc import Sequence

from noisynets.run.page import Block, Line, Table, curves
from noisynets.run.schedule import share_of_rate
from noisynets.run.settings import Config, task_of
from noisynets.tasks.data import ACCURACY

POINTS = 100
"""Points of the curve of the learning rate."""

Rows = Sequence[dict[str, float | None]]


def training(config: Config, rows: Rows) -> tuple[Block, ...]:
    """Return the curves of a run, and a table with a row per epoch.

    Args:
        config: resolved settings.
        rows: of metrics.csv.
    """
    rate = _rate(config)
    if not rows:
        return (rate,)
    measure = task_of(config).measure
    score = measure.name.replace("_", " ")
    factor, unit = (100, " (%)") if measure is ACCURACY else (1, "")
    logs = "" if measure.higher else "y"  # errors fall by orders of magnitude
    loss = curves("Loss by epoch", _lines(rows, "loss", 1), "epoch", "loss", logs=logs)
    scores = _lines(rows, measure.name, factor)
    heads = tuple(rows[0])
    cells = tuple(tuple(_cell(row[head]) for head in heads) for row in rows)
    names = tuple(head.replace("_", " ").replace("val ", "validation ") for head in heads)
    return (
        loss,
        curves(f"{score.capitalize()} by epoch", scores, "epoch", score + unit, logs=logs),
        rate,
        curves(
            f"{score.capitalize()} by time of training",
            _lines(rows, measure.name, factor, "seconds"),
            "seconds",
            score + unit,
            logs=logs,
        ),
        Table("Metrics of every epoch", names, cells, folded=True),
    )


def _lines(rows: Rows, name: str, factor: float, over: str = "epoch") -> list[Line]:
    """Return the lines of training and validation, of which there may be none."""
    found = []
    for part, label, dash in (("train", "training", "solid"), ("val", "validation", "dash")):
        y = [None if (v := row[f"{part}_{name}"]) is None else factor * v for row in rows]
        if any(v is not None for v in y):
            found.append(Line(label, [row[over] or 0.0 for row in rows], y, dash))
    return found


def _rate(config: Config) -> Block:
    """Return the curve of the learning rate, by its schedule."""
    done = [i / POINTS for i in range(POINTS + 1)]
    rates = [(config.lr or 0.0) * share_of_rate(config, x) for x in done]
    line = Line("learning rate", [config.epochs * x for x in done], rates)
    return curves("Learning rate, by its schedule", [line], "epoch", "learning rate")


def _cell(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}" if number % 1 == 0 else f"{number:.4g}"
