"""The folder of a run, `runs/<name>/`: what is in it, and how it comes into being."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisynets.checkpoint import write_atomically
from noisynets.config import Config
from noisynets.errors import InputError

METRICS = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "sample_forwards",
    "seconds",
)


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

    def config(self) -> Config:
        """Read the settings.

        Raises:
            InputError: if this is no run folder, or its settings cannot be read.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise InputError(f"{self.path}: no run folder (config.json is missing)")
        try:
            values = json.loads(file.read_text())
            hidden = tuple(values.pop("hidden"))
            return Config(**values, hidden=hidden)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"{file}: cannot be read ({error})") from error

    def write_metrics(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write metrics.csv: a row per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, METRICS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path / "metrics.csv", text.getvalue().encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        write_atomically(self.path / "summary.json", _json(summary))

    def summary(self) -> dict[str, Any] | None:
        """Read summary.json, if the run has ended."""
        file = self.path / "summary.json"
        values: dict[str, Any] | None = json.loads(file.read_text()) if file.is_file() else None
        return values


def create(out: Path | None, config: Config) -> RunFolder:
    """Make the folder with its config.json, both at once.

    Args:
        out: where; None: a free name under runs/.
        config: resolved settings.

    Raises:
        InputError: if `out` exists and is not empty, or cannot be written.
    """
    path = _free_name(config) if out is None else out
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"--out {path}: exists and is not empty; choose another, or resume it")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o755)
        try:
            write_atomically(temporary / "config.json", _json(asdict(config)))
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error})") from error
    return RunFolder(path)


def _free_name(config: Config) -> Path:
    widths = "-".join(map(str, config.hidden or ()))
    name = f"{config.task}-{config.system}-{widths}-{config.rule}-seed{config.seed}"
    path, n = Path("runs") / name, 2
    while path.exists():
        path, n = Path("runs") / f"{name}-{n}", n + 1
    return path


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
