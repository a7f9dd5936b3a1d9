"""The report of a benchmark: table of results, curves of the rules, candidates, links to runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from noisynets.bench.curves import curves_of
from noisynets.bench.results import spread
from noisynets.bench.table import RESULTS, Row, read_results
from noisynets.core.reading import read_text
from noisynets.run.folder import LONGEST
from noisynets.run.page import Block, Command, Line, Link, Notes, Page, Section, Table, curves
from noisynets.run.trust import NOBODY, Trust

Groups = dict[tuple[str, str], list[Row]]
"""Rows by case and rule."""


def is_bench(path: Path) -> bool:
    """Return True for the folder of a benchmark."""
    return (path / RESULTS).is_file()


def bench_page(path: Path, beside: Path, trust: Trust = NOBODY) -> Page:
    """Return the page of a benchmark, of which a part may be missing yet.

    Args:
        path: folder of the benchmark.
        beside: folder of the page, from where runs are linked.
        trust: permission to import what the settings of its runs name.

    Raises:
        InputError: for files that are damaged.
    """
    rows = read_results(path)
    compared = _grouped(row for row in rows if row.phase == "comparison")
    searched = _grouped(row for row in rows if row.phase == "search")
    rules = list(dict.fromkeys(row.rule for row in rows))
    lead, command, machine = _head(path)
    shown, missing = curves_of(path, compared, rules, trust)
    notes = tuple(f"No curves of {what}" for what in missing)
    return Page(
        title=f"Benchmark {path.resolve().name}",
        lead=lead or f"{len(rows)} runs of {len(rules)} rules.",
        sections=(
            Section("Results", (_results(compared), *command, *machine)),
            Section("Curves", (*shown, *((Notes(notes, warn=True),) if notes else ()))),
            Section("Candidates of the search", _candidates(searched, rules)),
            Section("Runs", (_runs(path, beside, rows),)),
        ),
    )


def _head(path: Path) -> tuple[str, tuple[Block, ...], tuple[Block, ...]]:
    """Return summary, command and machine, as results.md states them above its table."""
    file = path / "results.md"
    if not file.is_file():
        return "", (), ()
    above = read_text(file, limit=LONGEST).split("\n|")[0].splitlines()
    commands = [line.strip() for line in above if line.startswith("    ")]
    texts = [line for line in above if line.strip() and not line.startswith("    ")]
    command = tuple(Command("Command that makes these runs again", line) for line in commands[:1])
    return texts[0] if texts else "", command, (Notes(tuple(texts[1:])),) if texts[1:] else ()


def _results(groups: Groups) -> Table:
    """Return the table of results, a row per case and rule."""
    heads = ("case", "rule", "test", "validation", "training", "lr", "σ", "decor-lr")
    pulsed = any(row.writes is not None for own in groups.values() for row in own)
    rows = []
    for (case, rule), own in groups.items():
        first, done = own[0], [row for row in own if not row.diverged]
        lost = f" ({len(own) - len(done)} of {len(own)} diverged)" if len(done) < len(own) else ""
        parts = [[getattr(row, part) for row in done] for part in ("test", "val", "train")]
        scores = [spread([v for v in part if v is not None], first.score) for part in parts]
        costs = [
            _mean([row.sample_forwards for row in done], 1e-6, " M"),
            _mean([row.seconds for row in done]),
        ]
        cells = [scores[0] + lost, *scores[1:], *map(_short, first.point)]
        written = [row.writes for row in done]
        costs += [_mean(written)] if pulsed else []
        rows.append((case, rule, *cells, *costs, str(len(own))))
    score = ", ".join(dict.fromkeys(own[0].score for own in groups.values())).replace("_", " ")
    what = f"Mean ± standard deviation over seeds of {score or 'the score'}; accuracies in percent"
    costs_of = ["forward passes × samples", "seconds", *(["writes per weight"] if pulsed else [])]
    return Table(what, (*heads, *costs_of, "seeds"), tuple(rows))


def _candidates(groups: Groups, rules: Sequence[str]) -> tuple[Block, ...]:
    """Return the validation score of every candidate against its learning rate."""
    blocks: list[Block] = []
    rows: list[tuple[str, ...]] = []
    for case in dict.fromkeys(case for case, _ in groups):
        lines, score = [], ""
        for (_, rule), own in ((key, own) for key, own in groups.items() if key[0] == case):
            score = own[0].score
            factor = 100 if score == "accuracy" else 1
            found = {}
            for point in dict.fromkeys(row.point for row in own):
                values = [row.val for row in own if row.point == point]
                known = [value for value in values if value is not None]
                if len(known) == len(values):
                    found[point] = factor * mean(known)
                shown = spread(known, score) if len(known) == len(values) else "diverged"
                rows.append((case, rule, *map(_short, point), shown))
            at = sorted(found, key=lambda point: point[0])
            same = len({point[1:] for point in at}) == 1  # else a line would join unlike things
            rates = [point[0] for point in at]
            values = [found[point] for point in at]
            lines.append(Line(rule, rates, values, colour=rules.index(rule), joined=same))
        what = f"{case}: validation score of every candidate against its learning rate"
        blocks.append(curves(what, lines, "learning rate", _axis(score), logs="x", height=380))
    heads = ("case", "rule", "lr", "σ", "decor-lr", "validation")
    table = Table(f"All {len(rows)} candidates", heads, tuple(rows), folded=True)
    return (*blocks, table) if rows else ()


def _runs(path: Path, beside: Path, rows: Sequence[Row]) -> Table:
    """Return a table of all runs, with links to what there is of them."""
    found = []
    for row in rows:
        run = path / row.path
        name = next((n for n in ("report.html", "curves.png") if (run / n).is_file()), None)
        where = Path(os.path.relpath(run / (name or ""), beside)).as_posix()
        what = f"{row.path.name}, {Path(name).stem}" if name else f"{row.path.name} (no page)"
        cells = (row.rule, row.phase, str(row.seed), _score(row))
        found.append((row.case, *cells, Link(what, where) if name else what))
    heads = ("case", "rule", "phase", "seed", "validation", "run")
    caption = (
        f"All {len(rows)} runs. noisynets report {path / 'runs'}/CASE/RUN makes the page of one, "
        "to which a new report links"
    )
    return Table(caption, heads, tuple(found), folded=len(rows) > 40)


def _grouped(rows: Iterable[Row]) -> Groups:
    found: Groups = {}
    for row in rows:
        found.setdefault((row.case, row.rule), []).append(row)
    return found


def _score(row: Row) -> str:
    return "diverged" if row.diverged else spread([] if row.val is None else [row.val], row.score)


def _axis(score: str) -> str:
    return "validation accuracy (%)" if score == "accuracy" else f"validation {score}"


def _short(number: float | None) -> str:
    return "–" if number is None else f"{number:g}"


def _mean(numbers: Sequence[float | None], factor: float = 1, unit: str = "") -> str:
    known = [number for number in numbers if number is not None]
    return f"{factor * mean(known):.3g}{unit}" if known else "–"
