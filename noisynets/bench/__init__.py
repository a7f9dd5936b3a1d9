"""Benchmarks: comparisons of rules, tasks × systems × rules × seeds, and timings of training steps.

Every rule gets an equally large search for its settings. May import every package but `diagnose`
and `cli`; matplotlib is imported by the functions that draw.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from noisynets.bench.engines import engine, place
from noisynets.bench.pictures import draw_axes, draw_curves, draw_rates
from noisynets.bench.results import Group, as_csv, groups, markdown, spread
from noisynets.bench.run import Result, carry_out, ended
from noisynets.bench.suite import SUITES, Entry, Suite, read_suite, summaries
from noisynets.bench.written import draw_writes
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import RunFolder
from noisynets.run.lock import locked
from noisynets.run.session import build
from noisynets.run.trust import Trust


def bench(
    suite: Suite,
    out: Path,
    *,
    part: Suite | None = None,
    jobs: int = 1,
    on: str = "local",
    command: str = "",
    each: Callable[[Result], None] = lambda result: None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Group]:
    """Make the missing runs of a suite; write results.csv, results.md and the pictures.

    Args:
        suite: the suite.
        out: folder of the results; run folders are in out/runs.
        part: the part of the suite to run now; tables and pictures also contain earlier runs of
            the rest. None: the whole suite.
        jobs: number of runs at a time; 0: as many as there are cores, of a cluster all that can be
            made.
        on: where: 'local', 'dask:ADDRESS', or 'slurm' (docs/how-to/benchmarks.md).
        command: command line that reproduces the results, printed in results.md.
        each: called with every result as soon as it is there.
        say: called with a line about the cluster: its dashboard.

    Returns:
        The groups of runs in `part`.

    Raises:
        InputError: if a run cannot be built, data cannot be read, the folder contains runs with
            other settings, another process is using it, or a cluster cannot be used.
    """
    place(on)
    part = part or suite
    for entry in part.entries:  # errors in settings are raised before the first run
        try:
            build(entry.config)
        except InputError as error:
            raise InputError(f"case {entry.case!r}, rule {entry.rule!r}: {error}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error})") from error

    with locked(out):
        results = {result.run.path: result for result in ended(suite, out)}

        def write(result: Result) -> None:
            results[result.run.path] = result
            made = list(results.values())
            write_atomically(out / "results.csv", as_csv(suite, made).encode())
            write_atomically(out / "results.md", markdown(suite, made, command).encode())
            each(result)

        with engine(on, jobs, out, say) as made_by:
            carry_out(part, out, made_by, write)
        found = groups(suite, list(results.values()))
        _draw(out, found)
    return [group for group in found if (group.case, group.rule) in _names(part)]


def _names(suite: Suite) -> set[tuple[str, str]]:
    """Return case and rule of every entry."""
    return {(entry.case, entry.rule) for entry in suite.entries}


def _draw(out: Path, found: list[Group]) -> None:
    """Draw curves.png, rates.png, axes.png and writes.png from the groups that have runs."""
    found = [group for group in found if group.compared]
    cases: dict[str, dict[str, list[RunFolder]]] = {}
    for group in found:
        ended = [
            RunFolder(r.run.path, Trust.of(r.run.config))
            for r in group.compared
            if r.summary is not None
        ]
        if ended and not group.config.final_fit:
            cases.setdefault(group.case, {})[group.rule] = ended
    if cases:
        draw_curves(out / "curves.png", cases)
    draw_rates(out / "rates.png", found)
    draw_axes(out / "axes.png", found)
    draw_writes(out / "writes.png", found)


__all__ = [
    "SUITES",
    "Entry",
    "Group",
    "Result",
    "Suite",
    "bench",
    "draw_curves",
    "read_suite",
    "spread",
    "summaries",
]
