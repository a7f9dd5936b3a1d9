"""Comparing rules: tasks × systems × rules × seeds, with an equal search for every rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from noisynets.bench.pictures import draw_axes, draw_curves, draw_rates
from noisynets.bench.results import Group, as_csv, groups, markdown, spread
from noisynets.bench.run import Result, carry_out, ended
from noisynets.bench.suite import SUITES, Entry, Suite, read_suite, summaries
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import RunFolder
from noisynets.run.session import build


def bench(
    suite: Suite,
    out: Path,
    *,
    part: Suite | None = None,
    jobs: int = 1,
    command: str = "",
    each: Callable[[Result], None] = lambda result: None,
) -> list[Group]:
    """Carry out what is left of a suite; write results.csv, results.md and the pictures.

    Args:
        suite: what to compare.
        out: folder for all of it; run folders go under out/runs.
        part: of the suite that is carried out now; tables and pictures also hold what has been
            before. None: all of it.
        jobs: runs at a time.
        command: by which the results can be made again.
        each: told every result as it comes.

    Raises:
        InputError: for data that cannot be read, a folder with other runs in it, or one in which
            another process is at work.
    """
    part = part or suite
    for entry in part.entries:  # what cannot be built is refused before anything is run
        try:
            build(entry.config)
        except InputError as error:
            raise InputError(f"case {entry.case!r}, rule {entry.rule!r}: {error}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error})") from error

    try:
        with FileLock(out / ".lock", timeout=0):
            results = {result.run.path: result for result in ended(suite, out)}

            def write(result: Result) -> None:
                results[result.run.path] = result
                made = list(results.values())
                write_atomically(out / "results.csv", as_csv(suite, made).encode())
                write_atomically(out / "results.md", markdown(suite, made, command).encode())
                each(result)

            carry_out(part, out, jobs, write)
            found = groups(suite, list(results.values()))
            _draw(out, found)
    except Timeout as error:
        raise InputError(f"--out {out}: another process is at work there") from error
    return [group for group in found if (group.case, group.rule) in _names(part)]


def _names(suite: Suite) -> set[tuple[str, str]]:
    return {(entry.case, entry.rule) for entry in suite.entries}


def _draw(out: Path, found: list[Group]) -> None:
    found = [group for group in found if group.compared]
    cases: dict[str, dict[str, list[RunFolder]]] = {}
    for group in found:
        ended = [RunFolder(r.run.path) for r in group.compared if r.summary is not None]
        if ended and not group.config.final_fit:
            cases.setdefault(group.case, {})[group.rule] = ended
    if cases:
        draw_curves(out / "curves.png", cases)
    draw_rates(out / "rates.png", found)
    draw_axes(out / "axes.png", found)


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
