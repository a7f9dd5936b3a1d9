"""Training of a run: on batches, with an evaluation after each epoch and one test at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from noisynets.core.errors import BoxFailed, Diverged, InputError
from noisynets.core.noise import generator
from noisynets.core.types import Estimate
from noisynets.run.checkpoint import load_state, save_state
from noisynets.run.data import Data, load_data
from noisynets.run.evaluate import EVALUATION_BATCH, evaluate, recorded, threads
from noisynets.run.folder import RunFolder, create
from noisynets.run.kept import exhausted, keep_checkpoint, use_judged_
from noisynets.run.lock import locked
from noisynets.run.loggers import logged, results_of, step_values, values_of
from noisynets.run.loop import check_divergence, finite, run_epochs
from noisynets.run.result import conclude, draw, missing, summarised
from noisynets.run.session import Meter, Progress, Session, build, check_settings, steps_per_epoch
from noisynets.run.settings import DTYPES, Config, seeds
from noisynets.run.signals import Deferral, shielded
from noisynets.run.summary import WRITES
from noisynets.run.transfer import begun
from noisynets.run.trust import Trust, resuming
from noisynets.run.wear import warn_of_wear
from noisynets.systems.pulses import writes_per_weight
from noisynets.tasks.data import Examples


def train(
    folder: RunFolder,
    data: Data | None = None,
    *,
    device: str | None = None,
    progress_bar: bool = True,
) -> dict[str, Any]:
    """Train the run in `folder` from its start, or from where its checkpoint left it.

    Args:
        folder: holds config.json, and checkpoint.safetensors if the run has begun.
        data: as `load_data` returns it; None: load it.
        device: instead of the run's own.
        progress_bar: show one on standard error.

    Returns:
        The contents of summary.json.

    Raises:
        InputError: for settings, data or a checkpoint that cannot be used, or if another process
            is making the run.
        KeyboardInterrupt: at a signal, after the present step and a checkpoint.
        Diverged: if the loss is not finite or above 10 times its start; the last good
            checkpoint stays.
    """
    with locked(folder.path):
        session = open_session(folder, device)
        train_set, val_set = load_data(session.config) if data is None else data
        done = _steps_done(session, train_set)
        with threads(session), logged(folder, session.config, done) as session.log:
            try:
                with Deferral() as signals:
                    run = _Run(folder, session, train_set, val_set)
                    run.begin()
                    run_epochs(run, signals, progress_bar)
                session.keep_()
                use_judged_(folder, session)
                summary = conclude(folder, session, train_set, val_set)
                session.log(_steps_done(session, train_set), results_of(summary))
                return summary
            except Diverged:
                folder.write_summary(summarised(session, {}, diverged=True))
                raise
            except BoxFailed as error:  # the last whole step is kept
                _save(folder, session, session.resumable())
                again = resuming(folder.path, session.config)
                raise BoxFailed(f"{error}; then: {again}") from error


def redraw(folder: RunFolder, summary: dict[str, Any], device: str | None = None) -> list[str]:
    """Draw the pictures that a finished run lacks, from its checkpoint; return their names.

    Args:
        folder: of the run.
        summary: contents of summary.json.
        device: instead of the run's own.
    """
    gone = missing(folder, summary)
    if not gone or not folder.checkpoint.is_file():
        return []
    with locked(folder.path):
        session, recordings = open_trained(folder, device), []
        with threads(session):
            if folder.spikes.name in gone:
                train_set, val_set = load_data(session.config)
                recordings = recorded(session, train_set if val_set is None else val_set)
            return draw(folder, session, summary, recordings, gone)


def finished(path: Path, config: Config) -> dict[str, Any]:
    """Return the summary of a run; start or continue the run first, if it has not ended.

    Args:
        path: of its folder.
        config: resolved settings.

    Raises:
        InputError: if the folder holds a run with other settings.
        Diverged: if the run did, now or earlier.
    """
    there = (path / "config.json").is_file()
    folder = RunFolder(path, Trust.of(config)) if there else create(path, config)
    if not folder.has(config):
        raise InputError(
            f"{path}: was run with other settings: remove it, or choose another folder"
        )
    summary = folder.summary() or train(folder, progress_bar=False)
    if summary["diverged"]:
        raise Diverged(f"{path}: diverged when it was run")
    return summary


def open_session(folder: RunFolder, device: str | None = None) -> Session:
    """Build the session of a run, at the state of its checkpoint if there is one.

    Args:
        folder: of the run.
        device: instead of the run's own.
    """
    config = folder.config(device)
    session = build(config) if folder.checkpoint.is_file() else begun(config)
    if folder.checkpoint.is_file():
        state = load_state(folder.checkpoint)
        try:
            check_settings(state, session.config)
            session.restore_(state)
        except InputError as error:
            raise InputError(f"{folder.checkpoint}: {error}") from error
    return session


def open_trained(folder: RunFolder, device: str | None = None, epoch: int | None = None) -> Session:
    """Build the session of a run that has a checkpoint, with the weights that are its result.

    Args:
        folder: of the run.
        device: instead of the run's own.
        epoch: whose weights; None: the best one with `--keep best`, else the last one.

    Raises:
        InputError: if there is no checkpoint, or not of that epoch.
    """
    folder.config(device)
    if not folder.checkpoint.is_file():
        path = folder.path
        raise InputError(f"{path}: no checkpoint yet; continue with: noisynets resume {path}")
    session = open_session(folder, device)
    use_judged_(folder, session, epoch)
    return session


@dataclass
class _Run:
    """A run folder's training, as the loop sees it."""

    folder: RunFolder
    session: Session
    train_set: Examples
    val_set: Examples | None

    def __post_init__(self) -> None:
        config = self.session.config
        self.epochs = config.epochs
        self.steps = steps_per_epoch(config, len(self.train_set))
        self.score = self.session.task.measure.name

    @property
    def progress(self) -> Progress:
        """What is done."""
        return self.session.progress

    @property
    def finished(self) -> bool:
        """True if no epoch is left to make."""
        measure, patience = self.session.task.measure, self.session.config.patience
        stopped = exhausted(patience, self.progress.rows, measure)
        return stopped or self.progress.epoch >= self.epochs

    def begin(self) -> None:
        """Write the first checkpoint, unless there is one, and the metrics so far."""
        if not self.folder.checkpoint.is_file():
            self.save()
        self._write_metrics()

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches of the present epoch, from the present step on."""
        config, epoch = self.session.config, self.progress.epoch
        examples = cut_anew(config, epoch, self.train_set)
        order = _order(config, epoch, len(examples)).to(examples.y.device)
        left = order.split(config.batch_size)[self.progress.step : self.steps]
        return (examples.batch(index, DTYPES[config.dtype]) for index in left)

    def step_(self, x: Tensor, y: Tensor, done: float) -> Estimate:
        """One update of the weights."""
        estimate = self.session.step_(x, y, done)
        self.session.meter.add(estimate.loss, estimate.output, y)
        return estimate

    def end_epoch_(self) -> None:
        """Evaluate, append a row, and save."""
        session, progress, score = self.session, self.progress, self.score
        train_loss, train_score = session.meter.read()
        session.keep_()
        unseen = self.val_set is not None
        held_out = self.train_set.first(EVALUATION_BATCH) if self.val_set is None else self.val_set
        val_loss, val_score = evaluate(session, held_out)
        _check_divergence(session, val_loss)  # of the last update, too
        progress.epoch, progress.step = progress.epoch + 1, 0
        row = {
            "epoch": progress.epoch,
            "train_loss": train_loss,
            f"train_{score}": train_score,
            "val_loss": val_loss if unseen else None,
            f"val_{score}": val_score if unseen else None,
            "sample_forwards": progress.sample_forwards,
            "seconds": round(progress.seconds, 3),
        }
        if session.config.writes is not None:
            row[WRITES] = round(writes_per_weight(session.system), 6)
        progress.rows.append(row)
        session.log(_steps_done(session, self.train_set), values_of(row))
        keep_checkpoint(self.folder, session)
        session.meter = Meter.zero(self.train_set.y.device, session.task.measure)
        self.save()
        self._write_metrics()

    def _write_metrics(self) -> None:
        pulsed = self.session.config.writes is not None
        self.folder.write_metrics(self.progress.rows, self.score, pulsed)

    def check(self, loss: float) -> None:
        """Log the mean loss of the last steps, and raise `Diverged` if training has failed."""
        session = self.session
        done = _steps_done(session, self.train_set)
        session.log(done, step_values(session, loss))
        warn_of_wear(session.system, session.progress.notes, done, self.epochs * self.steps)
        _check_divergence(session, loss)

    def save(self) -> None:
        """Write a checkpoint."""
        _save(self.folder, self.session)

    def speed(self, examples: int, seconds: float) -> str:
        """Say how many characters of a text were learned in a second; of others, nothing."""
        if not self.session.task.vocabulary:
            return ""
        tokens = examples * self.session.config.context / max(seconds, 1e-9)
        return f", {tokens:,.0f} tokens/s"


def _steps_done(session: Session, train_set: Examples) -> int:
    """Return the number of finished steps of the run."""
    progress = session.progress
    return progress.epoch * steps_per_epoch(session.config, len(train_set)) + progress.step


def _save(folder: RunFolder, session: Session, state: dict[str, Any] | None = None) -> None:
    """Write the checkpoint, unless the last update has made a weight infinite or NaN."""
    if not finite(session.system):
        _check_divergence(session, math.nan)
    with shielded():
        save_state(folder.checkpoint, session.state() if state is None else state)


def cut_anew(config: Config, epoch: int, examples: Examples) -> Examples:
    """Return the examples of an epoch: those of a text begin at an offset of its own."""
    if examples.text is None:
        return examples
    seed = seeds(config)["order"]
    drawn_by = generator(seed, f"offset of the windows in epoch {epoch}")
    return examples.shifted(int(torch.randint(config.context, (), generator=drawn_by)))


def _order(config: Config, epoch: int, n: int) -> torch.Tensor:
    """Return the order of examples in an epoch: a function of seed and epoch alone."""
    drawn_by = generator(seeds(config)["order"], f"order of the examples in epoch {epoch}")
    return torch.randperm(n, generator=drawn_by)


def _check_divergence(session: Session, loss: float) -> None:
    config, explodes = session.config, session.task.measure.explodes
    check_divergence(
        session.system,
        session.progress,
        loss,
        limit=10 if explodes else math.inf,
        lr=f"lower --lr (now {config.lr:g})",
        decor_lr=f"lower --decor-lr (now {config.decor_lr:g})",
    )
