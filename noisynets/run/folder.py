"""The folder of a run, `runs/<name>/`: its files, and how it is created."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from noisynets.core.errors import DISK, InputError
from noisynets.core.values import read, written
from noisynets.run.checkpoint import write_atomically
from noisynets.run.lock import LOCK, locked
from noisynets.run.settings import Config, resolve


def columns(score: str) -> tuple[str, ...]:
    """Columns of metrics.csv, for the name of a score.

    The seconds are those of training: loading data and evaluating are not in them.
    """
    judged = ("train_loss", f"train_{score}", "val_loss", f"val_{score}")
    return ("epoch", *judged, "sample_forwards", "seconds")


@dataclass(frozen=True)
class RunFolder:
    """The files of a run; every one is written whole or not at all."""

    path: Path

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
            InputError: if this is no run folder, or its settings cannot be read.
        """
        file = self.path / "config.json"
        if not self.is_run:
            raise InputError(f"{self.path}: no run folder (config.json is missing)")
        try:
            values = json.loads(file.read_text())
            values["device"] = device or values["device"]
            return resolve(read(Config, values))
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{file}: cannot be read ({error})") from error

    def extend(self, epochs: int) -> None:
        """Change the number of epochs; a run with fewer epochs is then unfinished."""
        with locked(self.path):
            values = json.loads((self.path / "config.json").read_text()) | {"epochs": epochs}
            (self.path / "summary.json").unlink(missing_ok=True)
            self.write("config.json", values)

    def write_metrics(self, rows: Sequence[dict[str, Any]], score: str = "accuracy") -> None:
        """Write metrics.csv: a row per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, columns(score), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "metrics.csv", text.getvalue().encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        self.write("summary.json", summary)

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file."""
        write_atomically(self.path / name, _json(values))

    def summary(self) -> dict[str, Any] | None:
        """Read summary.json, if the run has ended."""
        file = self.path / "summary.json"
        if not file.is_file():
            return None
        try:
            values: dict[str, Any] = json.loads(file.read_text())
            return values
        except ValueError as error:
            raise InputError(f"{file}: cannot be read ({error}): remove it") from error


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
    return RunFolder(path)


def _refuse_full(path: Path) -> None:
    """Refuse a path with files, except those that killed processes leave in an empty folder."""
    found = path.iterdir() if path.is_dir() else ()
    if path.is_file() or any(p.name != LOCK and not p.name.endswith(".partial") for p in found):
        raise InputError(f"--out {path}: exists and is not empty; choose another, or resume it")


def _free_name(config: Config) -> Path:
    """Make a new folder under runs/, and return it."""
    widths = "-".join(map(str, config.hidden or ()))
    task = config.task.replace("/", "-")
    name = f"{task}-{config.system}-{widths}-{config.rule}-seed{config.seed}"
    for n in count(1):
        path = Path("runs") / (name if n == 1 else f"{name}-{n}")
        with suppress(FileExistsError):  # another process may have been quicker
            path.mkdir(parents=True)
            return path
    raise AssertionError("count is endless")


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
