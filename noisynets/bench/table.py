"""The rows of a results.csv, read back."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from noisynets.bench.results import COLUMNS
from noisynets.bench.suite import folder_of
from noisynets.core.reading import read_text, unreadable
from noisynets.run.folder import LONGEST
from noisynets.run.summary import WRITES

RESULTS = "results.csv"
ADVICE = "restore it, or run the benchmark again"


@dataclass(frozen=True)
class Row:
    """One run of a benchmark; None for a number that it does not have.

    Attributes:
        case: name of the case.
        rule: as `--rule` names it.
        phase: 'search' for settings, or 'comparison'.
        seed: of the run.
        lr: learning rate.
        sigma: of the injected noise.
        decor_lr: rate of decorrelation.
        diverged: True if it has no results.
        score: name of the score.
        val: validation score.
        test: test score.
        train: training score.
        sample_forwards: forward passes × samples.
        seconds: of training.
        writes: per weight, of pulsed devices.
        path: of its folder, relative to that of the benchmark.
    """

    case: str
    rule: str
    phase: str
    seed: int
    lr: float
    sigma: float | None
    decor_lr: float | None
    diverged: bool
    score: str
    val: float | None
    test: float | None
    train: float | None
    sample_forwards: float | None
    seconds: float | None
    writes: float | None
    path: Path

    @property
    def point(self) -> tuple[float, float | None, float | None]:
        """The settings that are searched."""
        return self.lr, self.sigma, self.decor_lr


def read_results(folder: Path) -> list[Row]:
    """Read the runs of a benchmark.

    Args:
        folder: of the benchmark.

    Raises:
        InputError: if results.csv is missing or damaged, or names a folder elsewhere.
    """
    file = folder / RESULTS
    text = read_text(file, limit=LONGEST, advice=ADVICE)
    try:
        head, *rows = list(csv.reader(text.splitlines(), strict=True)) or [[]]
        if tuple(head) not in (COLUMNS, (*COLUMNS, WRITES)):
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        return [_row(dict(zip(head, row, strict=True))) for row in rows]
    except (ValueError, csv.Error) as error:
        raise unreadable(file, error, ADVICE) from error


def _row(cells: dict[str, str]) -> Row:
    """Read one row; raise a ValueError where it is damaged."""
    name = cells["folder"]
    if Path(name).name != name or name in ("", "..") or "\0" in name:
        raise ValueError(f"{name!r} is no name of a folder")
    if cells["phase"] not in ("search", "comparison"):
        raise ValueError(f"{cells['phase']!r} is no phase")
    lr = _number(cells["lr"])
    if lr is None or not lr > 0:
        raise ValueError(f"lr = {cells['lr']!r} is not positive")
    optional = ("sigma", "decor_lr", "val", "test", "train", "sample_forwards", "seconds")
    sigma, decor_lr, val, test, train, forwards, seconds = (_number(cells[n]) for n in optional)
    return Row(
        case=cells["case"],
        rule=cells["rule"],
        phase=cells["phase"],
        seed=int(cells["seed"]),
        lr=lr,
        sigma=sigma,
        decor_lr=decor_lr or None,
        diverged=cells["diverged"] == "True",
        score=cells["score"],
        val=val,
        test=test,
        train=train,
        sample_forwards=forwards,
        seconds=seconds,
        writes=_number(cells.get(WRITES, "")),
        path=Path("runs") / folder_of(cells["case"]) / name,
    )


def _number(cell: str) -> float | None:
    """Return a number; None for an empty cell and for NaN."""
    found = float(cell) if cell else math.nan
    if math.isinf(found):
        raise ValueError(f"{cell!r} is not finite")
    return None if math.isnan(found) else found
