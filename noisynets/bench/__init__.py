"""Comparing rules: tasks × systems × rules × seeds, with an equal search for every rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from noisynets.bench.pictures import draw_axes, draw_curves, draw_rates
from noisynets.bench.results import Group, as_csv, groups, markdown, spread
from noisynets.bench.run import Result, carry_out
from noisynets.bench.suite import Entry, Suite, read_suite, suites, summaries
from noisynets.checkpoint import write_atomically
from noisynets.errors import InputError
from noisynets.run_folder import RunFolder
from noisynets.session import build


def bench(
    suite: Suite,
    out: Path,
    *,
    jobs: int = 1,
    command: str = "",
    each: Callable[[Result], None] = lambda result: None,
) -> list[Group]:
    """Carry out what is left of a suite; write results.csv, results.md and the pictures.

    Args:
        suite: what to compare.
        out: folder for all of it; run folders go under out/runs.
        jobs: runs at a time.
        command: by which the results can be made again.
        each: told every result as it comes.

    Raises:
        InputError: for data that cannot be read, or a folder with other runs in it.
    """
    for entry in suite.entries:  # what cannot be built is refused before anything is run
        try:
            build(entry.config)
        except InputError as error:
            raise InputError(f"case {entry.case!r}, rule {entry.rule!r}: {error}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error})") from error

    def write(results: list[Result]) -> None:
        write_atomically(out / "results.csv", as_csv(suite, results).encode())
        write_atomically(out / "results.md", markdown(suite, results, command).encode())
        each(results[-1])

    found = groups(suite, carry_out(suite, out, jobs, write))
    cases: dict[str, dict[str, list[RunFolder]]] = {}
    for group in found:
        ended = [RunFolder(r.run.path) for r in group.compared if r.summary is not None]
        if ended and not group.config.final_fit:
            cases.setdefault(group.case, {})[group.rule] = ended
    if cases:
        draw_curves(out / "curves.png", cases)
    draw_rates(out / "rates.png", found)
    draw_axes(out / "axes.png", found)
    return found


__all__ = [
    "Entry",
    "Group",
    "Result",
    "Suite",
    "bench",
    "draw_curves",
    "read_suite",
    "spread",
    "suites",
    "summaries",
]
