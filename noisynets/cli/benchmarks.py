"""Comparisons of rules, and the speed of steps."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from noisynets.bench import Result, read_suite
from noisynets.bench import bench as compare
from noisynets.bench.growth import draw_growth, growth
from noisynets.bench.speed import QUICK, Ratio, speed
from noisynets.bench.speed import markdown as speed_table
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import write_atomically
from noisynets.run.settings import task_of
from noisynets.tasks.data.store import fetch


def bench(
    suite: tyro.conf.Positional[str],
    cases: tuple[str, ...] = (),
    rules: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    candidates: int | None = None,
    epochs: int | None = None,
    data_dir: Path | None = None,
    jobs: int = 0,
    quick: bool = False,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Compare rules on the cases of a suite, each with settings searched for as long.

    What is in --out already is not run again: the same command goes on where it was stopped. Leaves
    results.csv, results.md and pictures there, of all that has been run so far.

    Args:
        suite: `noisynets list` names them; or a TOML file (docs/how-to/benchmarks.md);
            or speed, which times training steps.
        cases: some of the suite's. None given: all.
        rules: some of the suite's. None given: all.
        seeds: of the comparison; the first is also that of the search. None given: the suite's.
        candidates: settings to try for every rule. Unset: the suite's.
        epochs: of the comparison. Unset: the suite's.
        data_dir: folder (or file) with the tasks' files.
        jobs: runs at a time, each on one thread. 0: as many as there are cores.
        quick: of speed: small sizes, that only show that everything runs.
        threads: of speed: CPU threads.
        out: folder of the results. Unset: runs/bench/SUITE.
    """
    if suite == "speed":
        _speed(quick, threads, Path("runs/bench/speed") if out is None else out)
        return
    if quick or threads != 1:
        raise InputError("--quick and --threads are settings of speed alone")
    changes: dict[str, Any] = {"epochs": epochs, "data_dir": data_dir and str(data_dir)}
    changes = {name: value for name, value in changes.items() if value is not None}
    chosen = read_suite(suite, changes)
    if seeds or candidates is not None:
        chosen = replace(
            chosen,
            seeds=seeds or chosen.seeds,
            candidates=chosen.candidates if candidates is None else candidates,
        )
    if chosen.candidates < 1 or jobs < 0 or min(chosen.seeds) < 0:
        raise InputError("--candidates must be at least 1, --jobs and --seeds not negative")
    if len(set(chosen.seeds)) < len(chosen.seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: one is twice")
    part = chosen.only(cases, rules)
    for config in {entry.config.task: entry.config for entry in part.entries}.values():
        files = task_of(config).files
        if files is not None and config.data_dir is None:
            fetch(files, say=lambda line: print(line, file=sys.stderr))
    path = Path("runs/bench") / chosen.name if out is None else out
    total = len(part.entries) * len(part.seeds)
    searches = sum(not entry.tuned for entry in part.entries)
    total += searches * part.candidates * len(part.search_seeds)
    where = None if data_dir is None else "DIR"
    given = {"seeds": seeds, "candidates": candidates}
    try:
        with tqdm(total=total, unit="run", dynamic_ncols=True) as bar:

            def each(result: Result) -> None:
                bar.set_postfix_str(result.run.path.name, refresh=False)
                bar.update()

            compare(
                chosen,
                path,
                part=part,
                jobs=jobs or os.cpu_count() or 1,
                command=_spelled("bench", suite, **given, epochs=epochs, data_dir=where),
                each=each,
            )
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    print((path / "results.md").read_text())
    left = sorted(p.name for p in path.iterdir() if p.is_file() and p.name[0] != ".")
    print(f"{path}: {', '.join(left)}")


def _speed(quick: bool, threads: int, out: Path) -> None:
    """Time training steps, and print and write the table."""
    if not 1 <= threads <= (os.cpu_count() or 1):
        raise InputError(f"--threads {threads}: this machine has {os.cpu_count()}")
    before, found = torch.get_num_threads(), list[Ratio]()
    torch.set_num_threads(threads)
    for ratio in speed(QUICK if quick else None):
        found.append(ratio)
        print(f"{ratio.median:6.2f}  {ratio.work}, against {ratio.against}", file=sys.stderr)
    costs = list(growth(quick, **({"turns": 1, "taught": 1} if quick else {})))
    torch.set_num_threads(before)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "speed.md", speed_table(found, threads).encode())
    draw_growth(out / "growth.png", costs)
    print(speed_table(found, threads))


def _spelled(*words: str, **options: Any) -> str:
    """Return a command line; options that are None or empty were not given.

    >>> _spelled("bench", "smoke", rules=("anp", "bp"), epochs=None, data_dir="a b")
    "noisynets bench smoke --rules anp bp --data-dir 'a b'"
    """
    parts = ["noisynets", *words]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        if values and value is not None:
            parts += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(parts)
