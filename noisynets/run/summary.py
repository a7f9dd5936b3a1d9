"""What metrics.csv and summary.json hold, so that damaged ones are not reported as results."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from noisynets.run.settings import Config, task_of

NAMES = ("task", "system", "rule", "seed")
"""Settings that a summary repeats."""


WRITES = "writes_per_weight"
"""Column of runs on pulsed devices: pulses so far, divided by the number of weights."""


def columns(score: str, pulsed: bool = False) -> tuple[str, ...]:
    """Columns of metrics.csv.

    The seconds are those of training: loading data and evaluating are not in them.

    Args:
        score: its name.
        pulsed: the run is on pulsed devices.
    """
    judged = ("train_loss", f"train_{score}", "val_loss", f"val_{score}")
    return ("epoch", *judged, "sample_forwards", "seconds", *([WRITES] if pulsed else []))


def problems(summary: Any, config: Config) -> Iterator[str]:
    """Name everything that is wrong with a summary; names that are unknown here are ignored.

    Args:
        summary: as read from JSON.
        config: resolved settings of the run.

    >>> from noisynets.run.settings import resolve
    >>> next(problems([], resolve(Config())))
    'it is no table'
    """
    if not isinstance(summary, dict):
        yield "it is no table"
        return
    if not isinstance(summary.get("diverged"), bool):
        yield "diverged is neither true nor false"
    for name in NAMES:
        if summary.get(name) != getattr(config, name):
            yield f"its {name} is not that of config.json"
    for name in ("sample_forwards", "seconds"):
        if not _amount(summary.get(name)):
            yield f"{name} is no finite number of at least 0"
    known = _known(summary, config)
    for name in sorted({*_scores(config), *known}):
        if not _score(summary.get(name, ""), name in known):
            yield f"{name} is no number"
    each = summary.get(f"test_{task_of(config).measure.name}_by_output")
    if each is not None and not _scores_of(each, task_of(config).classes):
        yield "its scores by output are no numbers, one per output"
    for name, (fits, what) in OTHERS.items():
        if summary.get(name) is not None and not fits(summary[name]):
            yield f"{name} is {what}"


def _scores(config: Config) -> list[str]:
    """Name the scores that every summary has."""
    score = task_of(config).measure.name
    return ["test_loss", *(f"{part}_{score}" for part in ("test", "val", "train"))]


def _known(summary: dict[str, Any], config: Config) -> set[str]:
    """Name the scores that must be numbers, as they were measured."""
    if summary.get("diverged") is True:
        return set()
    task = task_of(config)
    names = {task.measure.name} | ({task.closing.name} if task.closing is not None else set())
    tested = {"test_loss", *(f"test_{name}" for name in names)} if config.test else set()
    validated = set() if config.final_fit else {f"val_{name}" for name in names}
    return {f"train_{task.measure.name}"} | tested | validated


def _amount(value: Any) -> bool:
    """Return True for a finite number of at least 0."""
    return _score(value, True) and 0 <= value < 2**63


def _score(value: Any, known: bool) -> bool:
    """Return True for a number, which may be NaN or infinite, and for None if it is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None and not known
    return isinstance(value, float) or abs(value) < 2**63


def _scores_of(values: Any, outputs: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == outputs
        and all(_score(value, True) for value in values)
    )


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _rates(values: Any) -> bool:
    return isinstance(values, dict) and all(_amount(value) for value in values.values())


def _files(values: Any) -> bool:
    return _texts(values) and all(re.fullmatch(r"[\w-][\w. -]*", value) for value in values)


OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "peak_memory_mb": (_amount, "no number"),
    "tokens_per_second": (_amount, "no number"),
    "environment_steps": (_amount, "no number"),
    "spikes_per_step": (_rates, "no table of numbers"),
    WRITES: (_amount, "no number"),
    "pulses": (_amount, "no number"),
    "most_writes_of_a_device": (_amount, "no number"),
    "worn_devices": (_amount, "no number"),
    "write_energy_joules": (_amount, "no number"),
    "writes_by_layer": (_rates, "no table of numbers"),
    "notes": (_texts, "no list of texts"),
    "pictures": (_files, "no list of names of files"),
}
"""Values that a summary may have, what is asked of them, and what they are if they are not that."""
