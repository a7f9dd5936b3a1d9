"""Execution of a suite: for every case and rule a search, then the comparison; in parallel."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from noisynets.bench.engines import Engine
from noisynets.bench.search import Scores, compass, grid, searched, start
from noisynets.bench.suite import Entry, Suite
from noisynets.core.errors import Diverged, InputError
from noisynets.run.folder import RunFolder
from noisynets.run.settings import Config, task_of
from noisynets.run.train import finished
from noisynets.run.trust import Trust

Phase = Literal["search", "comparison"]


@dataclass(frozen=True)
class Run:
    """One run of a suite.

    Attributes:
        entry: the case and rule to which it belongs.
        phase: 'search' for settings, or 'comparison'.
        config: resolved settings.
        path: path of its run folder.
    """

    entry: Entry
    phase: Phase
    config: Config
    path: Path


@dataclass(frozen=True)
class Result:
    """A finished run; its summary is None if it diverged."""

    run: Run
    summary: dict[str, Any] | None


Schedule = Generator[list[Run], list[Result], None]
"""Yields lists of runs that may be made in parallel, and is sent their results."""


def judged_by(config: Config) -> tuple[str, bool]:
    """Return the name of the score by which runs are compared, and True if higher is better."""
    task = task_of(config)
    return task.measure.name if task.closing is None else task.closing.name, task.measure.higher


def score(result: Result) -> float:
    """Return a run's validation score with the sign that makes higher better; −inf: diverged."""
    if result.summary is None:
        return -math.inf
    name, higher = judged_by(result.run.config)
    value: float = result.summary[f"val_{name}"]
    return -math.inf if math.isnan(value) else value if higher else -value


def schedule(suite: Suite, entry: Entry, out: Path) -> Schedule:
    """Yield the runs of one rule on one case: the search for its settings, then every seed.

    Args:
        suite: the suite.
        entry: the case and rule.
        out: folder of the results.
    """
    config = entry.config
    if not entry.tuned:
        epochs = suite.search_epochs or config.epochs
        short = replace(config, epochs=epochs, test=False)
        first, rates = start(config), entry.rates[: suite.candidates]
        search = grid(first, rates) if rates else compass(first, searched(config), suite.candidates)
        seen: Scores = {}
        points = next(search)
        while points:
            tried = [(point, seed) for point in points for seed in suite.search_seeds]
            runs = [_run(entry, "search", suite.seeded(p.of(short), s), out) for p, s in tried]
            results = yield runs
            scores = {key: score(result) for key, result in zip(tried, results, strict=True)}
            found = {p: mean(scores[p, seed] for seed in suite.search_seeds) for p in points}
            seen |= found
            points = _next(search, found)
        config = max(seen, key=lambda point: seen[point]).of(config)
    yield [_run(entry, "comparison", suite.seeded(config, s), out) for s in suite.seeds]


def _next(search: Generator[Any, Scores, None], found: Scores) -> list[Any]:
    """Send scores to a search and return its next points; an empty list at its end."""
    try:
        return list(search.send(found))
    except StopIteration:
        return []


def carry_out(suite: Suite, out: Path, engine: Engine, each: Callable[[Result], None]) -> None:
    """Make, continue or read every run of a suite; earlier cases have priority.

    Args:
        suite: the suite.
        out: folder of the results; runs that are finished there are read, not repeated.
        engine: makes the runs.
        each: called with the result of every run.

    Raises:
        InputError: if data cannot be read, a run folder has other settings, or a run's process
            was killed.
    """
    schedules = [schedule(suite, entry, out) for entry in suite.entries]
    batches = [_Batch(next(s)) for s in schedules]
    going: dict[Future[Result], tuple[int, int]] = {}
    while True:
        for i, batch in enumerate(batches):
            while batch.left and len(going) < engine.jobs:
                place = batch.left.pop(0)
                run = batch.runs[place]
                going[engine.submit(make, run, run.path.name, i)] = (i, place)
        if not going:
            return
        for future in wait(going, return_when=FIRST_COMPLETED).done:
            i, place = going.pop(future)
            batches[i].results[place] = future.result()
            each(future.result())
            if len(batches[i].results) == len(batches[i].runs):
                batches[i] = _Batch(_following(schedules[i], batches[i].in_order()))


def ended(suite: Suite, out: Path) -> list[Result]:
    """Read the finished runs of a suite without making any.

    A case's comparison is read only if all runs of its search are finished.
    """
    found = []
    for entry in suite.entries:
        following = schedule(suite, entry, out)
        runs = next(following)
        while runs:
            results = [result for run in runs if (result := _read(run)) is not None]
            found += results
            runs = _following(following, results) if len(results) == len(runs) else []
    return found


def _read(run: Run) -> Result | None:
    """Return the result in a run's folder; None if the run is not finished there."""
    folder = RunFolder(run.path, Trust.of(run.config))
    summary = folder.summary()
    if summary is None or not folder.has(run.config):
        return None
    return Result(run, None if summary["diverged"] else summary)


def make(run: Run) -> Result:
    """Make one run; continue it if it was interrupted, read it if it is finished."""
    try:
        return Result(run, finished(run.path, run.config))
    except Diverged:
        return Result(run, None)


class _Batch:
    """Runs of one schedule that may be made in parallel, with the results so far."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.left = list(range(len(runs)))
        self.results: dict[int, Result] = {}

    def in_order(self) -> list[Result]:
        return [self.results[place] for place in range(len(self.runs))]


def _following(schedule: Schedule, results: list[Result]) -> list[Run]:
    """Send results to a schedule and return its next runs; an empty list at its end."""
    try:
        return schedule.send(results)
    except StopIteration:
        return []


def _run(entry: Entry, phase: Phase, config: Config, out: Path) -> Run:
    """Return a run, with a folder named after the settings in which the suite's runs differ.

    Raises:
        InputError: if a link on the way to the folder leads out of the folder of the results.
    """
    parts = [config.rule, f"lr{config.lr:g}"]
    parts += [f"sigma{config.injected:g}"] if config.injected is not None else []
    parts += [f"decor{config.decor_lr:g}"] if config.decor_lr else []
    parts += [f"epochs{config.epochs}", f"seed{config.seed}"]
    parts += ["search"] if phase == "search" else []
    path = out / "runs" / entry.folder / "-".join(parts)
    if not path.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{path}: a link leads out of {out}, where nothing is written: remove it")
    return Run(entry, phase, config, path)
