"""The folder of a run, `runs/<name>/`: its files, and how it is created."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from noisynets.core.errors import DISK, InputError
from noisynets.core.pages import Page
from noisynets.core.reading import read_json, read_text, unreadable
from noisynets.core.values import read, written
from noisynets.run.checkpoint import write_atomically
from noisynets.run.lock import LOCK, locked
from noisynets.run.settings import Config, resolve
from noisynets.run.summary import WRITES, columns, problems
from noisynets.run.trust import NOBODY, NotTrusted, Trust
from noisynets.tasks.data import short

LONGEST = 2**26
"""Bytes of a file of results, at most."""
ADVICE = "restore it, or remove it and resume the run"


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; every one is written whole or not at all.

    Attributes:
        path: of the folder.
        trust: permission to run the code that its settings name: the command of a box, say.
        box_timeout: instead of the run's own, in seconds.
    """

    path: Path
    trust: Trust = NOBODY
    box_timeout: float | None = None

    @property
    def checkpoint(self) -> Path:
        """The whole state of the run, from which it continues."""
        return self.path / "checkpoint.safetensors"

    @property
    def curves(self) -> Path:
        """The picture."""
        return self.path / "curves.png"

    @property
    def spikes(self) -> Path:
        """The picture of spikes and potentials, of a spiking system."""
        return self.path / "spikes.png"

    @property
    def is_run(self) -> bool:
        """True if the folder has settings of a run."""
        try:
            return (self.path / "config.json").is_file()
        except OSError:  # the path is too long, say
            return False

    def config(self, device: str | None = None) -> Config:
        """Read the settings; `device` replaces the run's own.

        Raises:
            InputError: if this is no run folder, its settings cannot be read, or they would run
                code for which there is no permission.
        """
        file = self.path / "config.json"
        if not self.is_run:
            raise InputError(f"{self.path}: no run folder (config.json is missing)", page=Page.RUNS)
        values = read_json(file)
        if device is not None and isinstance(values, dict) and "device" in values:
            values["device"] = device
        try:
            given = read(Config, values)
            self.trust.check(given)
            return resolve(replace(given, box_timeout=self.box_timeout or given.box_timeout))
        except InputError as error:
            raise type(error)(f"{file}: {error}") from error

    def has(self, config: Config) -> bool:
        """Return True if the run has these settings."""
        try:
            return self.config() == config
        except NotTrusted:
            return False

    def extend(self, **changes: int) -> None:
        """Change epochs or patience; a run with fewer epochs is then unfinished."""
        with locked(self.path):
            values = read_json(self.path / "config.json") | changes
            (self.path / "summary.json").unlink(missing_ok=True)
            self.write("config.json", values)

    def write_metrics(
        self, rows: Sequence[dict[str, Any]], score: str = "accuracy", pulsed: bool = False
    ) -> None:
        """Write metrics.csv: a row per epoch, with the writes of a run on pulsed devices."""
        write_table(self.path / "metrics.csv", columns(score, pulsed), rows)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        self.write("summary.json", summary)

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file."""
        write_atomically(self.path / name, _json(values))

    def summary(self) -> dict[str, Any] | None:
        """Read summary.json, if the run has ended.

        Raises:
            InputError: if it is damaged, or belongs to another run.
        """
        file = self.path / "summary.json"
        if not os.path.lexists(file):
            return None
        values: dict[str, Any] = read_json(file, limit=LONGEST, advice=ADVICE)
        wrong = list(problems(values, self.config("cpu")))
        if wrong:
            raise InputError(f"{file}: {'; '.join(wrong)}: {ADVICE}")
        return values

    def metrics(self, score: str) -> list[dict[str, float | None]]:
        """Read the rows of metrics.csv; cells that are empty become None.

        Args:
            score: name of the score.

        Raises:
            InputError: if the file is missing or damaged.
        """
        file = self.path / "metrics.csv"
        text = read_text(file, limit=LONGEST, advice=ADVICE)
        try:
            head, *rows = list(csv.reader(text.splitlines(), strict=True)) or [[]]
            known = columns(score, pulsed=WRITES in head)
            if tuple(head) != known or any(len(row) != len(head) for row in rows):
                raise ValueError(f"its columns are not {', '.join(known)}")
            if not text.endswith("\n"):
                raise ValueError("its last line is cut off")
            cells = [[float(cell) if cell else None for cell in row] for row in rows]
            found = [dict(zip(head, row, strict=True)) for row in cells]
            if [row["epoch"] for row in found] != list(range(1, len(found) + 1)):
                raise ValueError("its rows are not epoch 1, 2, …")
            if not all(0 < (row["sample_forwards"] or 0) < math.inf for row in found):
                raise ValueError("sample_forwards is not positive")
            return found
        except (ValueError, csv.Error) as error:
            raise unreadable(file, error, ADVICE) from error


def write_table(path: Path, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a table with these columns as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def create(out: Path | None, config: Config) -> RunFolder:
    """Make the folder with its config.json.

    Args:
        out: where; None: a free name under runs/.
        config: resolved settings.

    Raises:
        InputError: if `out` exists and is not empty, or cannot be written.
    """
    path = out
    try:
        if path is None:
            path = _free_name(config)
        _refuse_full(path)
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            _refuse_full(path)  # by now, another process may have used it
            write_atomically(path / "config.json", _json(written(config)))
    except OSError as error:
        if error.errno in DISK:
            error.add_note(f"nothing was written to {path or 'runs'}")
            raise
        raise InputError(f"--out {path or 'runs'}: cannot be written ({error})") from error
    return RunFolder(path, Trust.of(config))


def _refuse_full(path: Path) -> None:
    """Refuse a path with files, except those that killed processes leave in an empty folder."""
    found = path.iterdir() if path.is_dir() else ()
    if path.is_file() or any(p.name != LOCK and not p.name.endswith(".partial") for p in found):
        raise InputError(f"--out {path}: exists and is not empty; choose another, or resume it")


def _free_name(config: Config) -> Path:
    """Make a new folder under runs/, and return it."""
    widths = [*map(str, config.hidden or (f"{config.layers}x{config.width}",))]
    parts = [short(config.task), config.system, *widths, config.rule]
    name = "-".join([*parts, f"seed{config.seed}"])
    for n in count(1):
        path = Path("runs") / (name if n == 1 else f"{name}-{n}")
        with suppress(FileExistsError):  # another process may have been quicker
            path.mkdir(parents=True)
            return path
    raise AssertionError("count is endless")


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
