"""What a suite gives: results.csv, a row per run, and a table in Markdown."""

from __future__ import annotations

import csv
import io
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from statistics import mean, stdev
from typing import Any

from noisynets.bench.run import Result, judged_by, score
from noisynets.bench.search import Point, start
from noisynets.bench.suite import Suite
from noisynets.run.settings import Config
from noisynets.run.summary import WRITES

COLUMNS = (
    *("case", "rule", "phase", "seed", "epochs", "lr", "sigma", "decor_lr", "diverged"),
    *("score", "val", "test", "train", "sample_forwards", "seconds", "folder"),
)
COSTS = ("sample_forwards", "seconds", WRITES)
"""Columns that summary.json has under the same name; `WRITES` is that of suites with pulses."""


def columns(suite: Suite) -> tuple[str, ...]:
    """Return the columns of a suite's results.csv."""
    return (*COLUMNS, WRITES) if any(entry.pulsed for entry in suite.entries) else COLUMNS


@dataclass(frozen=True)
class Group:
    """The runs of one rule on one case.

    Attributes:
        case: its name.
        rule: as `--rule` names it.
        at: where the case lies on axes, by their names.
        candidates: settings that were tried, the best first; of each, a run per seed.
        compared: one per seed.
    """

    case: str
    rule: str
    at: tuple[tuple[str, float], ...]
    candidates: list[list[Result]]
    compared: list[Result]

    @property
    def config(self) -> Config:
        """The settings that were compared (of the first seed)."""
        return self.compared[0].run.config

    @property
    def writes(self) -> list[float]:
        """Writes per weight, one per seed that did not diverge; none where pulses are not used."""
        found = [(result.summary or {}).get(WRITES) for result in self.compared]
        return [value for value in found if value is not None]

    def values(self, part: str) -> list[float]:
        """Return a part's scores, one per seed that did not diverge."""
        found = [of_part(result, part) for result in self.compared]
        return [value for value in found if value is not None]


def of_part(result: Result, part: str) -> float | None:
    """Return the score on 'val', 'test' or 'train'; None if there is none."""
    name, _ = judged_by(result.run.config)
    value: float | None = (result.summary or {}).get(f"{part}_{name}")
    return value


def groups(suite: Suite, results: Sequence[Result]) -> list[Group]:
    """Sort results by case and rule, in the suite's order, and seeds in theirs."""
    found = []
    for entry in suite.entries:
        own = [r for r in results if r.run.entry == entry]
        compared = [r for r in own if r.run.phase == "comparison"]
        compared.sort(key=lambda r: suite.seeds.index(r.run.config.seed))
        tried: dict[Point, list[Result]] = {}
        for result in sorted(own, key=lambda r: r.run.path):
            if result.run.phase == "search":
                tried.setdefault(start(result.run.config), []).append(result)
        candidates = sorted(tried.values(), key=lambda runs: -mean(map(score, runs)))
        found.append(Group(entry.case, entry.rule, entry.at, candidates, compared))
    return found


def rows(suite: Suite, results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return a row per run, of `columns`."""
    found = []
    for group in groups(suite, results):
        for result in [*chain(*group.candidates), *group.compared]:
            config, summary = result.run.config, result.summary or {}
            values = {name: getattr(config, name, None) for name in columns(suite)}
            values |= {name: summary.get(name) for name in COSTS if name in values}
            values |= {part: of_part(result, part) for part in ("val", "test", "train")}
            values |= {"case": group.case, "rule": group.rule}
            values |= {"phase": result.run.phase, "diverged": result.summary is None}
            values |= {"score": judged_by(config)[0], "folder": result.run.path.name}
            found.append(values)
    return found


def as_csv(suite: Suite, results: Sequence[Result]) -> str:
    """Return the contents of results.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(suite), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(suite, results))
    return text.getvalue()


def markdown(suite: Suite, results: Sequence[Result], command: str) -> str:
    """Return the contents of results.md: what was done, by which command, and the table."""
    cores = f"{os.cpu_count()} CPU cores ({platform.machine()}), one thread per run"
    versions = f"torch {version('torch')}, Python {platform.python_version()}"
    epochs = f", {suite.search_epochs} epochs each" if suite.search_epochs else ""
    seeds = _listed(suite.seeds)
    several = len(suite.search_seeds) > 1
    tried = sorted({suite.tried(entry) for entry in suite.entries if not entry.tuned})
    candidates = " or ".join(map(str, tried or [suite.candidates]))
    plural = "" if candidates == "1" else "s"
    chosen_on = ("the mean of seeds " if several else "seed ") + _listed(suite.search_seeds)
    writes = " writes per weight |" if WRITES in columns(suite) else ""
    lines = [
        f"{suite.summary} Mean ± standard deviation over seeds {seeds}; test sets were read once "
        "per run.",
        "",
        f"    {command}",
        "",
        f"{cores}; {versions}, noisynets {version('noisynets')}. Settings were chosen on "
        f"validation, {chosen_on}, from {candidates} candidate{plural} per rule and "
        f"case{epochs}"
        + ("; those marked ° before." if any(e.tuned for e in suite.entries) else "."),
        "",
        f"| case | rule | lr | σ | decor-lr | test | train |{writes} sample-forwards | seconds |",
        "|---" * (9 + bool(writes)) + "|",
    ]
    tuned = {(e.case, e.rule) for e in suite.entries if e.tuned}
    former = ""
    for group in groups(suite, results):
        if not group.compared:
            continue
        config = group.config
        marked = "°" if (group.case, group.rule) in tuned else ""
        sigma = "–" if config.injected is None else f"{config.injected:g}"
        decor_lr = f"{config.decor_lr:g}" if config.decor_lr else "–"
        name, _ = judged_by(config)
        cells = [
            "" if group.case == former else group.case.replace("|", "\\|"),
            group.rule + marked,
            f"{config.lr:g}",
            sigma,
            decor_lr,
            *(spread(group.values(part), name) + _lost(group) for part in ("test", "train")),
            *([_writes(group)] if writes else []),
            *_cost(group),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        former = group.case
    done = sum(bool(group.compared) for group in groups(suite, results))
    if done < len(suite.entries):
        lines += ["", f"So far {done} of {len(suite.entries)} rows: the command makes the others."]
    return "\n".join([*lines, "", *_by_output(suite, results)])


def spread(values: Sequence[float], name: str) -> str:
    """Mean ± standard deviation; accuracies in percent.

    >>> spread([0.97, 0.98], "accuracy"), spread([0.5], "nmse"), spread([], "nmse")
    ('97.50 ± 0.71', '0.5000', '–')
    """
    if not values:
        return "–"
    factor, digits = (100, 2) if name == "accuracy" else (1, 4)
    deviation = f" ± {factor * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * mean(values):.{digits}f}{deviation}"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _lost(group: Group) -> str:
    lost = sum(result.summary is None for result in group.compared)
    return f" ({lost} of {len(group.compared)} diverged)" if lost else ""


def _cost(group: Group) -> list[str]:
    done = [result.summary for result in group.compared if result.summary is not None]
    if not done:
        return ["–", "–"]
    forwards = mean(summary["sample_forwards"] for summary in done)
    return [f"{forwards / 1e6:.3g} M", f"{mean(summary['seconds'] for summary in done):.0f}"]


def _writes(group: Group) -> str:
    """Return mean ± standard deviation of the writes per weight, to three digits of the mean."""
    if not group.writes:
        return "–"
    several = len(group.writes) > 1
    return f"{mean(group.writes):.3g}" + (f" ± {stdev(group.writes):.2g}" if several else "")


def _by_output(suite: Suite, results: Sequence[Result]) -> list[str]:
    """Return a table with a column per output, of the cases whose tasks have several values."""
    lines: list[str] = []
    for group in groups(suite, results):
        name = f"test_{judged_by(group.config)[0]}_by_output" if group.compared else ""
        found = [r.summary[name] for r in group.compared if r.summary and name in r.summary]
        if not found:
            continue
        if not lines:
            heads = [f"output {i + 1}" for i in range(len(found[0]))]
            lines += [f"| case | rule | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
        cells = [spread(values, "") for values in zip(*found, strict=True)]
        lines.append(f"| {group.case} | {group.rule} | {' | '.join(cells)} |")
    return [*lines, ""] if lines else []
