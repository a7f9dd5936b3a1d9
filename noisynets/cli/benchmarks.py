"""Comparisons of rules, and the speed of steps."""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from noisynets.bench import Result, Suite, read_suite
from noisynets.bench import bench as compare
from noisynets.bench.engines import LOCAL, place
from noisynets.bench.growth import draw_growth, growth
from noisynets.bench.networks import NETWORKS, NOISES, line, missing, results
from noisynets.bench.networks import markdown as network_table
from noisynets.bench.speed import QUICK, Ratio, speed
from noisynets.bench.speed import markdown as speed_table
from noisynets.cli.overrides import overrides
from noisynets.core.errors import InputError
from noisynets.core.reading import read_text
from noisynets.core.settings import REQUIRED, setting
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import LONGEST
from noisynets.run.settings import task_of
from noisynets.run.trust import Trust, TrustSettings
from noisynets.tasks.data.store import fetch

SPEED, OF_NETWORKS = "speed", "networks"
"""Benchmarks that are no suites."""
OWN = {SPEED: ("quick", "threads"), OF_NETWORKS: ("only", "steps", "noise", "timeout", "markdown")}
"""Options that only one of them takes."""


@dataclass(frozen=True, kw_only=True)
class BenchArguments(TrustSettings):
    """Arguments of `noisynets bench`."""

    suite: str = setting(
        REQUIRED,
        "Suite, as `noisynets list` names them; or a TOML file of your own, as "
        "docs/how-to/benchmarks.md describes; or speed, which times training steps; or networks, "
        "which compares mirrored credit with autograd.",
        metavar="SUITE",
        positional=True,
    )
    cases: tuple[str, ...] = setting((), "Some of the suite's cases. None given: all.")
    rules: tuple[str, ...] = setting((), "Some of the suite's rules. None given: all.")
    seeds: tuple[int, ...] = setting(
        (),
        "Seeds of the comparison; the first is also that of the search. None given: the suite's.",
        at_least=0,
    )
    candidates: int | None = setting(
        None, "Settings to try for every rule. Unset: the suite's.", at_least=1
    )
    epochs: int | None = setting(None, "Epochs of the comparison. Unset: the suite's.", at_least=1)
    set: tuple[str, ...] = setting(
        (),
        "Settings of `noisynets train` that override the suite's in all cases, as width=64 "
        "lr=0.01; rules that do not use one go without. A learning rate is where searches start.",
        metavar="NAME=VALUE",
        repeated=True,
    )
    data_dir: Path | None = setting(None, "Folder (or file) with the tasks' files.")
    jobs: int = setting(
        0,
        "Runs at a time, each on one thread. 0: as many as there are cores; slurm needs a number.",
        at_least=0,
    )
    on: str = setting(
        "local",
        "Where runs are made: local; dask:ADDRESS, on the workers of a dask scheduler; or slurm, "
        "in jobs with the settings of dask-jobqueue. Clusters need the extra distributed.",
        metavar="WHERE",
    )
    quick: bool = setting(False, "speed: small sizes, that only show that everything runs.")
    threads: int = setting(1, "speed: CPU threads.", at_least=1)
    only: tuple[str, ...] = setting((), "networks: some of them. None given: all.")
    steps: int = setting(300, "networks: calls that teach the mirrors.", at_least=1)
    noise: str = setting(
        "none",
        "networks: none, for injected noise; or intrinsic, for Linear layers and convolutions on a "
        "simulated chip with its own noise.",
        choices=NOISES,
    )
    timeout: float = setting(900.0, "networks: seconds that each may take.", above=0)
    markdown: Path | None = setting(None, "networks: file of the table, of all in --out.")
    out: Path | None = setting(
        None,
        "Folder of the results, of networks the file. Unset: runs/bench/SUITE, of networks "
        "runs/bench/networks.jsonl.",
    )


def bench(arguments: BenchArguments) -> None:
    """Compare rules on the cases of a suite, each with settings searched for as long.

    What is in --out already is not run again: the same command goes on where it was stopped. Leaves
    results.csv, results.md and pictures there, of all that has been run so far.
    """
    a = arguments
    _check(a)
    if a.suite == SPEED:
        _speed(a.quick, a.threads, Path("runs/bench/speed") if a.out is None else a.out)
        return
    if a.suite == OF_NETWORKS:
        _networks(a)
        return
    chosen = _chosen(a)
    part = chosen.only(a.cases, a.rules)
    _fetch(part)
    path = _free(chosen.name, a.set) if a.out is None else a.out
    given = {"seeds": a.seeds, "candidates": a.candidates, "epochs": a.epochs, "set": a.set}
    where = None if a.data_dir is None else "DIR"
    command = _spelled("bench", a.suite, **given, data_dir=where)
    try:
        _compare(chosen, part, path, a, command)
    except (KeyboardInterrupt, OSError) as error:
        error.add_note("the same command goes on from there")
        raise
    print(read_text(path / "results.md", limit=LONGEST))
    left = sorted(p.name for p in path.iterdir() if p.is_file() and p.name[0] != ".")
    print(f"{path}: {', '.join(left)}")


def _check(a: BenchArguments) -> None:
    """Refuse options of another benchmark."""
    if place(a.on)[0] != LOCAL and a.suite in OWN:
        raise InputError(f"--on {a.on}: {a.suite} is measured on this machine alone")
    defaults = {field.name: field.default for field in fields(BenchArguments)}
    for suite, names in OWN.items():
        if a.suite != suite and any(getattr(a, name) != defaults[name] for name in names):
            flags = [f"--{name}" for name in names]
            raise InputError(
                f"{', '.join(flags[:-1])} and {flags[-1]} are settings of {suite} alone"
            )


def _chosen(a: BenchArguments) -> Suite:
    """Read the suite, with the changes that the command line makes."""
    changes: dict[str, Any] = {"epochs": a.epochs, "data_dir": a.data_dir and str(a.data_dir)}
    changes = {name: value for name, value in changes.items() if value is not None}
    changes |= overrides(a.set)
    paths = [] if a.data_dir is None else [str(a.data_dir.absolute())]
    named = [*paths, *(str(v) for name, v in changes.items() if name == "box")]
    chosen = read_suite(a.suite, changes, Trust(frozenset(named), a.trust))
    if len(set(a.seeds)) < len(a.seeds):
        raise InputError(f"--seeds {' '.join(map(str, a.seeds))}: one is twice")
    candidates = chosen.candidates if a.candidates is None else a.candidates
    summary = _changed(chosen.summary, a.epochs, a.set)
    return replace(chosen, summary=summary, seeds=a.seeds or chosen.seeds, candidates=candidates)


def _changed(summary: str, epochs: int | None, changes: tuple[str, ...]) -> str:
    """Return the line about a suite, with the settings that were changed on the command line.

    >>> _changed("MNIST.", 1, ("width=8",))
    'MNIST. With other settings than the suite: epochs=1 width=8; cases keep their names.'
    """
    found = [f"epochs={epochs}"] * (epochs is not None) + list(changes)
    if not found:
        return summary
    here = f"With other settings than the suite: {' '.join(found)}; cases keep their names."
    return f"{summary} {here}".strip()


def _free(name: str, changes: tuple[str, ...]) -> Path:
    """Return the folder of a suite's results, one for every set of changes to its settings.

    >>> _free("smoke", ("lr=0.01", "hidden=64,32")).name
    'smoke-lr-0.01-hidden-64-32'
    """
    parts = [re.sub(r"[^\w.]+", "-", part).strip("-") for part in (name, *changes)]
    return Path("runs/bench") / "-".join(parts)


def _fetch(part: Suite) -> None:
    """Fetch the data sets of a suite."""
    for config in {entry.config.task: entry.config for entry in part.entries}.values():
        files = task_of(config).files
        if files is not None and config.data_dir is None:
            fetch(files, say=lambda line: print(line, file=sys.stderr))


def _compare(chosen: Suite, part: Suite, path: Path, a: BenchArguments, command: str) -> None:
    """Carry the comparison out, with a progress bar."""
    candidates = sum(part.tried(entry) for entry in part.entries)
    total = len(part.entries) * len(part.seeds) + candidates * len(part.search_seeds)
    with tqdm(total=total, unit="run", dynamic_ncols=True) as bar:

        def each(result: Result) -> None:
            bar.set_postfix_str(result.run.path.name, refresh=False)
            bar.update()

        def say(line: str) -> None:
            bar.write(line, file=sys.stderr)

        compare(chosen, path, part=part, jobs=a.jobs, on=a.on, command=command, each=each, say=say)


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


def _networks(a: BenchArguments) -> None:
    """Measure the networks that the file of results lacks, and write the table."""
    chosen = [NETWORKS[name] for name in a.only or NETWORKS]
    path = Path("runs/bench/networks.jsonl") if a.out is None else a.out
    for found in missing(chosen, path, a.steps, a.noise, a.timeout):
        print(line(found), flush=True)
    table = network_table(results(path))
    if a.markdown is not None:
        write_atomically(a.markdown, table.encode())
    else:
        print(table)


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
