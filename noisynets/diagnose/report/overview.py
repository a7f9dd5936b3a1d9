"""Results and settings of a run, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from noisynets.core.settings import GROUPS, Option
from noisynets.core.values import options, value
from noisynets.run.page import Block, Command, Table
from noisynets.run.rerun import command
from noisynets.run.settings import Config, task_of
from noisynets.tasks.data import ACCURACY, Measure

PARTS = {"test": "test", "val": "validation", "train": "training"}
"""Parts of the examples, as summary.json has them and as they are called."""
COSTS = {
    "sample_forwards": ("forward passes × samples", "{:,.0f}"),
    "seconds": ("time of training", "{:,.1f} s"),
    "peak_memory_mb": ("peak memory", "{:,.0f} MiB"),
    "tokens_per_second": ("characters learned per second", "{:,.0f}"),
    "environment_steps": ("steps of the environment", "{:,.0f}"),
}
"""What a run has cost: label and form of the number."""


def state(measure: Measure, score: float) -> str:
    """Return a score in words.

    >>> state(ACCURACY, 0.9731)
    'accuracy 97.31 %'
    """
    return f"{_words(measure.name)} {_number(measure, score)}"


def results(
    config: Config, summary: dict[str, Any] | None, rows: Sequence[dict[str, float | None]]
) -> tuple[Block, ...]:
    """Return the results of a run: scores, and what it has cost.

    Args:
        config: resolved settings.
        summary: contents of summary.json, if the run has ended.
        rows: of metrics.csv.
    """
    if summary is None:
        return ()
    heads = ("", *PARTS.values())
    known = summary | {"val_loss": rows[-1]["val_loss"] if rows else None}
    scores = Table(
        "Scores at the end of training", heads, tuple(_scores(config, known)), narrow=True
    )
    costs = tuple(
        (label, form.format(summary[name]))
        for name, (label, form) in COSTS.items()
        if summary.get(name) is not None
    )
    tables = [scores, Table("Cost", ("", ""), costs, narrow=True)]
    each = summary.get(f"test_{task_of(config).measure.name}_by_output")
    if each:
        cells = tuple((f"output {i + 1}", f"{score:.4g}") for i, score in enumerate(each))
        tables.append(Table("Test score of each output", ("output", "score"), cells))
    return tuple(tables)


def _scores(config: Config, summary: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row per score: of the parts that were evaluated."""
    task = task_of(config)
    yield _row(task.measure.name, summary, task.measure)
    yield _row("loss", summary, None)
    if task.closing is not None:
        yield _row(task.closing.name, summary, None)


def _row(name: str, summary: dict[str, Any], measure: Measure | None) -> tuple[str, ...]:
    found = [summary.get(f"{part}_{name}") for part in PARTS]
    return (_words(name), *("–" if x is None else _number(measure, x) for x in found))


def command_of(config: Config) -> Command:
    """Return the command that makes the run again."""
    return Command("Command that makes this run again", command(config))


def settings(config: Config) -> tuple[Block, ...]:
    """Return two tables: the settings that are not the defaults, and all of them."""
    known = options(Config).items()
    changed = [o for name, o in known if value(config, name) != o.default]
    groups = [[o for _, o in known if o.setting.group == group] for group in GROUPS]
    others = [o for _, o in known if o.setting.group not in GROUPS]
    every = [option for group in (*groups, others) for option in group]
    heads = ("setting", "value", "default", "what it is")
    rows = [tuple(_setting(option, config) for option in found) for found in (changed, every)]
    short = tuple(row[:3] for row in rows[0])
    return (
        Table("Settings that differ from the defaults, or that these left open", heads[:3], short),
        Table(f"All {len(every)} settings", heads, rows[1], folded=True),
    )


def _setting(option: Option, config: Config) -> tuple[str, str, str, str]:
    """Return the row of a setting: its name, value, default and help."""
    s = option.setting
    text = s.help() if callable(s.help) else s.help
    unit = f" ({s.unit})" if s.unit else ""
    return option.flag, _shown(value(config, option.name)), _shown(option.default), text + unit


def _shown(found: Any) -> str:
    parts = found if isinstance(found, tuple) else (found,)
    return " ".join(map(str, parts)) if found not in (None, ()) else "–"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(measure: Measure | None, score: float) -> str:
    return f"{100 * score:.2f} %" if measure is ACCURACY else f"{score:.4g}"
