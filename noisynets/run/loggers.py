"""Logs of a run for other programs: TensorBoard, Weights & Biases, MLflow, or a CSV file.

Values are written as numbers by name and step of training. The packages are imported when they are
used. A log never ends a run: if it fails, a warning says so, and the run goes on without it.
"""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.core.reading import read_json, read_text, reason
from noisynets.core.registry import Registry
from noisynets.core.values import written
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import LONGEST, RunFolder
from noisynets.run.session import Session
from noisynets.run.settings import Config

Scalars = Mapping[str, float]
Write = Callable[[int, Scalars], None]
"""(step, values by name) → written."""
PROJECT = "noisynets"


@dataclass(frozen=True)
class Kind:
    """A kind of log.

    Attributes:
        name: as `--log` names it.
        package: that it needs; '': none.
        open: (folder, settings, finished steps) → a function that writes, and one that closes.
            Values of later steps, of a run that was stopped, are to be replaced.
    """

    name: str
    package: str
    open: Callable[[RunFolder, Config, int], tuple[Write, Callable[[], None]]]


def step_values(session: Session, loss: float) -> Scalars:
    """Return what is logged of some steps: their mean loss, and the learning rate of the last."""
    return {"step/train_loss": loss, "step/lr": float(session.optimiser.param_groups[0]["lr"])}


def values_of(row: Mapping[str, Any]) -> Scalars:
    """Return what is logged of an epoch: its row of metrics.csv.

    >>> values_of({"epoch": 2, "train_loss": 0.5, "val_loss": None})
    {'epoch/epoch': 2.0, 'epoch/train_loss': 0.5}
    """
    return {f"epoch/{name}": float(value) for name, value in row.items() if value is not None}


def results_of(summary: Mapping[str, Any]) -> Scalars:
    """Return what is logged of a run that has ended: losses and scores of its result.

    >>> results_of({"test_loss": 0.5, "val_accuracy": None, "seed": 0})
    {'result/test_loss': 0.5}
    """
    parts = ("test_", "val_", "train_")
    return {
        f"result/{name}": float(value)
        for name, value in summary.items()
        if name.startswith(parts) and isinstance(value, int | float)
    }


def check_log(config: Config) -> None:
    """Check that the package of the log is installed.

    Raises:
        InputError: if it is not.
    """
    package = "" if config.log is None else KINDS[config.log].package
    if package and find_spec(package) is None:
        raise InputError(
            f"--log {config.log}: the package {package} is not installed: install "
            "noisynets[loggers]"
        )


@contextmanager
def logged(folder: RunFolder, config: Config, step: int) -> Iterator[Write]:
    """Open the log that the settings name, and close it afterwards.

    Args:
        folder: of the run.
        config: resolved settings.
        step: finished steps.

    Raises:
        InputError: if its package is not installed.
    """
    check_log(config)
    if config.log is None:
        yield lambda step, values: None
        return
    state = _Guarded(config.log)
    opened = state.guarded(lambda: KINDS[str(config.log)].open(folder, config, step))
    write, close = opened or (None, None)

    def log(step: int, values: Scalars) -> None:
        if write is not None:
            state.guarded(lambda: write(step, values))

    try:
        yield log
    finally:
        if close is not None:
            state.guarded(close)


@dataclass
class _Guarded:
    """Calls of a log, until one has failed."""

    name: str
    failed: bool = False

    def guarded(self, call: Callable[[], Any]) -> Any:
        """Call a function; if it fails, warn, and call nothing any more."""
        if self.failed:
            return None
        try:
            return call()
        except Exception as error:  # packages and servers fail in many ways
            self.failed = True
            warnings.warn(
                f"--log {self.name} failed ({reason(error)}): the run goes on without",
                stacklevel=2,
            )
            return None


def _csv(folder: RunFolder, config: Config, done: int) -> tuple[Write, Callable[[], None]]:
    """log.csv in the folder of the run: a line per step and name."""
    path, lines = folder.path / "log.csv", [["step", "name", "value"]]
    if done and path.is_file():
        found = list(csv.reader(io.StringIO(read_text(path, limit=LONGEST))))
        lines += [row for row in found[1:] if len(row) == 3 and int(row[0]) <= done]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    write_atomically(path, text.getvalue().encode())

    def write(step: int, values: Scalars) -> None:
        with open(path, "a", newline="") as file:
            rows = [(step, name, f"{value:.9g}") for name, value in values.items()]
            csv.writer(file, lineterminator="\n").writerows(rows)

    return write, lambda: None


def _tensorboard(folder: RunFolder, config: Config, done: int) -> tuple[Write, Callable[[], None]]:
    """Event files in the subfolder tensorboard, for: tensorboard --logdir runs."""
    from torch.utils.tensorboard import SummaryWriter

    to = str(folder.path / "tensorboard")
    writer = SummaryWriter(to, purge_step=done + 1 if done else None)
    if not done:
        writer.add_text("settings", f"```json\n{json.dumps(written(config), indent=2)}\n```")

    def write(step: int, values: Scalars) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write, writer.close


def _wandb(folder: RunFolder, config: Config, done: int) -> tuple[Write, Callable[[], None]]:
    """A run of Weights & Biases, of the project noisynets, or $WANDB_PROJECT."""
    with extra("loggers", "--log wandb"):
        import wandb

    known = _known(folder, "wandb")
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=folder.path.name,
        dir=str(folder.path),
        id=known or uuid.uuid4().hex[:12],
        resume="allow",
        config=written(config),
    )
    folder.write("log.json", {"wandb": run.id})
    return lambda step, values: run.log(dict(values), step=step), run.finish


def _mlflow(folder: RunFolder, config: Config, done: int) -> tuple[Write, Callable[[], None]]:
    """A run of MLflow, of the experiment noisynets, at $MLFLOW_TRACKING_URI."""
    with extra("loggers", "--log mlflow"):
        import mlflow

    known = _known(folder, "mlflow")
    client = mlflow.MlflowClient()
    if known:
        run = client.get_run(known)
    else:
        there = client.get_experiment_by_name(PROJECT)
        number = client.create_experiment(PROJECT) if there is None else there.experiment_id
        run = client.create_run(number, run_name=folder.path.name)
        for name, value in written(config).items():
            client.log_param(run.info.run_id, name, str(value)[:500])
        folder.write("log.json", {"mlflow": run.info.run_id})

    def write(step: int, values: Scalars) -> None:
        for name, value in values.items():
            client.log_metric(run.info.run_id, name, value, step=step)

    return write, lambda: client.set_terminated(run.info.run_id)


def _known(folder: RunFolder, name: str) -> str | None:
    """Return the name that a run which continues has with a server."""
    path: Path = folder.path / "log.json"
    found = read_json(path) if path.is_file() else {}
    known = found.get(name) if isinstance(found, dict) else None
    return known if isinstance(known, str) else None


KINDS: Registry[Kind] = Registry(
    "log",
    (
        Kind("csv", "", _csv),
        Kind("tensorboard", "tensorboard", _tensorboard),
        Kind("wandb", "wandb", _wandb),
        Kind("mlflow", "mlflow", _mlflow),
    ),
)
