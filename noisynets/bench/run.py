"""Carrying a suite out: searches, then the comparison, several runs at a time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from noisynets.bench.search import Scores, compass, searched, start
from noisynets.bench.suite import Entry, Suite
from noisynets.core.errors import Diverged, InputError
from noisynets.run.allocator import keep_freed
from noisynets.run.folder import RunFolder
from noisynets.run.plugins import load_plugins
from noisynets.run.settings import Config, task_of
from noisynets.run.train import finished

Phase = Literal["search", "comparison"]


@dataclass(frozen=True)
class Run:
    """One run of a suite.

    Attributes:
        entry: what it belongs to.
        phase: whether it helps to choose settings, or is compared.
        config: resolved settings.
        path: of its folder.
    """

    entry: Entry
    phase: Phase
    config: Config
    path: Path


@dataclass(frozen=True)
class Result:
    """A run that has ended; its summary is None if it diverged."""

    run: Run
    summary: dict[str, Any] | None


Course = Generator[list[Run], list[Result], None]
"""Yields runs that can be made side by side, is sent their results, and goes on."""


def judged_by(config: Config) -> tuple[str, bool]:
    """Name the score by which runs are chosen and compared, and whether more of it is better."""
    task = task_of(config)
    return task.measure.name if task.closing is None else task.closing.name, task.measure.higher


def score(result: Result) -> float:
    """Return what a candidate is chosen by, on validation: the more the better; −inf: diverged."""
    if result.summary is None:
        return -math.inf
    name, higher = judged_by(result.run.config)
    value: float = result.summary[f"val_{name}"]
    return -math.inf if math.isnan(value) else value if higher else -value


def course(suite: Suite, entry: Entry, out: Path) -> Course:
    """Yield the runs of one rule on one case: the search for its settings, then every seed."""
    config = entry.config
    if not entry.tuned:
        epochs = suite.search_epochs or config.epochs
        short = replace(config, epochs=epochs, test=False)
        search = compass(start(config), searched(config), suite.candidates)
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
    try:
        return list(search.send(found))
    except StopIteration:
        return []


def carry_out(suite: Suite, out: Path, jobs: int, each: Callable[[Result], None]) -> None:
    """Make, continue or read every run of a suite, the first cases first.

    Args:
        suite: what to run.
        out: where the run folders go; what is there already is not run again.
        jobs: runs at a time, each in a process of its own; one: in this process.
        each: told the result of every run.

    Raises:
        InputError: for data that cannot be read, or a run folder with other settings.
    """
    courses = [course(suite, entry, out) for entry in suite.entries]
    batches = [_Batch(next(c)) for c in courses]
    try:
        with _executor(jobs) as pool, _stopped(pool):
            going: dict[Future[Result], tuple[int, int]] = {}
            while True:
                for i, batch in enumerate(batches):
                    while batch.left and len(going) < jobs:
                        place = batch.left.pop(0)
                        going[pool.submit(make, batch.runs[place])] = (i, place)
                if not going:
                    return
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    i, place = going.pop(future)
                    batches[i].results[place] = future.result()
                    each(future.result())
                    if len(batches[i].results) == len(batches[i].runs):
                        batches[i] = _Batch(_following(courses[i], batches[i].in_order()))
    except BrokenProcessPool as error:
        raise InputError(
            f"{out}: a run was killed, for want of memory perhaps: the same command with --jobs 1 "
            "goes on"
        ) from error


def ended(suite: Suite, out: Path) -> list[Result]:
    """Read the runs of a suite that have ended, as far as they lead on; make none."""
    found = []
    for entry in suite.entries:
        following = course(suite, entry, out)
        runs = next(following)
        while runs:
            results = [result for run in runs if (result := _read(run)) is not None]
            found += results
            runs = _following(following, results) if len(results) == len(runs) else []
    return found


def _read(run: Run) -> Result | None:
    folder = RunFolder(run.path)
    summary = folder.summary()
    if summary is None or folder.config() != run.config:
        return None
    return Result(run, None if summary["diverged"] else summary)


@contextmanager
def _stopped(pool: Executor) -> Iterator[None]:
    """Take what runs in other processes along when this one is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        for process in (getattr(pool, "_processes", None) or {}).values():
            process.terminate()
        raise


def _worker() -> None:
    """Set up a process of our own, which ends when the one that started it is gone."""
    keep_freed()
    load_plugins()
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def make(run: Run) -> Result:
    """Make, continue or read one run."""
    try:
        return Result(run, finished(run.path, run.config))
    except Diverged:
        return Result(run, None)


class _Here(Executor):
    """Runs in this process, one after the other."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _executor(jobs: int) -> Executor:
    if jobs == 1:
        return _Here()
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_worker)


class _Batch:
    """Runs of one course that are made side by side."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.left = list(range(len(runs)))
        self.results: dict[int, Result] = {}

    def in_order(self) -> list[Result]:
        return [self.results[place] for place in range(len(self.runs))]


def _following(course: Course, results: list[Result]) -> list[Run]:
    try:
        return course.send(results)
    except StopIteration:
        return []


def _run(entry: Entry, phase: Phase, config: Config, out: Path) -> Run:
    """Name a run's folder after whatever tells it from the suite's others."""
    parts = [config.rule, f"lr{config.lr:g}"]
    parts += [f"sigma{config.injected:g}"] if config.injected is not None else []
    parts += [f"decor{config.decor_lr:g}"] if config.decor_lr else []
    parts += [f"epochs{config.epochs}", f"seed{config.seed}"]
    parts += ["search"] if phase == "search" else []
    return Run(entry, phase, config, out / "runs" / entry.folder / "-".join(parts))
