"""The training loop: train on batches, evaluate on validation after each epoch, test once."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from noisynets.core.decorrelation import unstable
from noisynets.core.errors import BoxFailed, Diverged, InputError
from noisynets.core.noise import generator
from noisynets.run.checkpoint import load_state, save_state
from noisynets.run.data import Data, load_data
from noisynets.run.evaluate import EVALUATION_BATCH, evaluate, recorded, threads
from noisynets.run.folder import RunFolder, create
from noisynets.run.kept import exhausted, keep_checkpoint, use_judged_
from noisynets.run.lock import locked
from noisynets.run.loggers import logged, results_of, step_values, values_of
from noisynets.run.result import conclude, draw, missing, summarised
from noisynets.run.session import Meter, Session, build, check_settings, steps_per_epoch
from noisynets.run.settings import DTYPES, Config, seeds
from noisynets.run.signals import Deferral, shielded
from noisynets.run.summary import WRITES
from noisynets.run.transfer import begun
from noisynets.run.trust import Trust, resuming
from noisynets.systems.pulses import writes_per_weight
from noisynets.tasks.data import Examples

GUARD_STEPS = 50
CHECKPOINT_SECONDS = 60.0


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
                    _run_epochs(folder, session, train_set, val_set, progress_bar, signals)
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


def _run_epochs(
    folder: RunFolder,
    session: Session,
    train_set: Examples,
    val_set: Examples | None,
    progress_bar: bool,
    signals: Deferral,
) -> None:
    config, progress, score = session.config, session.progress, session.task.measure.name
    pulsed = config.writes is not None
    if not folder.checkpoint.is_file():
        _save(folder, session)
    folder.write_metrics(progress.rows, score, pulsed)
    steps = steps_per_epoch(config, len(train_set))
    bar = tqdm(
        total=config.epochs * steps,
        initial=progress.epoch * steps + progress.step,
        unit="step",
        disable=not progress_bar,
        dynamic_ncols=True,
        mininterval=0.5,
    )
    held_out = train_set.first(EVALUATION_BATCH) if val_set is None else val_set
    with bar:
        measure, patience = session.task.measure, config.patience
        while progress.epoch < config.epochs and not exhausted(patience, progress.rows, measure):
            _run_epoch(folder, session, train_set, bar, signals)
            train_loss, train_score = session.meter.read()
            session.keep_()
            val = evaluate(session, held_out)
            _check_divergence(session, val[0])  # of the last update, too
            progress.epoch, progress.step = progress.epoch + 1, 0
            row = {
                "epoch": progress.epoch,
                "train_loss": train_loss,
                f"train_{score}": train_score,
                "val_loss": None if val_set is None else val[0],
                f"val_{score}": None if val_set is None else val[1],
                "sample_forwards": progress.sample_forwards,
                "seconds": round(progress.seconds, 3),
            }
            if pulsed:
                row[WRITES] = round(writes_per_weight(session.system), 6)
            progress.rows.append(row)
            session.log(_steps_done(session, train_set), values_of(row))
            keep_checkpoint(folder, session)
            session.meter = Meter.zero(train_set.y.device, session.task.measure)
            _save(folder, session)
            folder.write_metrics(progress.rows, score, pulsed)
            if signals.came:
                signals.deliver()


def _run_epoch(
    folder: RunFolder, session: Session, train_set: Examples, bar: Any, signals: Deferral
) -> None:
    """Finish the present epoch, from the present step on; at a signal, save and stop."""
    config, progress = session.config, session.progress
    train_set = cut_anew(config, progress.epoch, train_set)
    order = _order(config, progress.epoch, len(train_set)).to(train_set.y.device)
    batches = order.split(config.batch_size)[: steps_per_epoch(config, len(train_set))]
    total = config.epochs * len(batches)
    guard = Meter.zero(train_set.y.device, session.task.measure)
    clock = saved = time.perf_counter()
    for step in range(progress.step, len(batches)):
        x, y = train_set.batch(batches[step], DTYPES[config.dtype])
        done = (progress.epoch * len(batches) + step) / total
        estimate = session.step_(x, y, done)
        session.meter.add(estimate.loss, estimate.output, y)
        guard.add(estimate.loss, estimate.output, y)
        progress.step = step + 1
        progress.sample_forwards += estimate.sample_forwards
        bar.update()
        first = math.isnan(progress.first_loss)
        if first or progress.step % GUARD_STEPS == 0 or progress.step == len(batches):
            loss, _ = guard.read()
            progress.first_loss = loss if first else progress.first_loss
            session.log(_steps_done(session, train_set), step_values(session, loss))
            _check_divergence(session, loss)
            now = time.perf_counter()
            where = f"epoch {progress.epoch + 1}/{config.epochs}"
            speed = "" if first else _speed(session, guard.count, now - clock)
            bar.set_postfix_str(f"{where}, loss {loss:.4f}{speed}", refresh=False)
            guard = Meter.zero(train_set.y.device, session.task.measure)
            progress.seconds, clock = progress.seconds + now - clock, now
            if now - saved > CHECKPOINT_SECONDS:  # at the end, too: evaluation may take long
                _save(folder, session)
                saved = now
        if signals.came:
            progress.seconds += time.perf_counter() - clock
            _save(folder, session)
            signals.deliver()


def _steps_done(session: Session, train_set: Examples) -> int:
    """Return the number of finished steps of the run."""
    progress = session.progress
    return progress.epoch * steps_per_epoch(session.config, len(train_set)) + progress.step


def _save(folder: RunFolder, session: Session, state: dict[str, Any] | None = None) -> None:
    """Write the checkpoint, unless the last update has made a weight infinite or NaN."""
    if not all(bool(p.isfinite().all()) for p in session.system.parameters()):
        _check_divergence(session, math.nan)
    with shielded():
        save_state(folder.checkpoint, session.state() if state is None else state)


def _speed(session: Session, windows: int, seconds: float) -> str:
    """Say how many characters of a text were learned in a second; of other examples, nothing."""
    if not session.task.vocabulary:
        return ""
    return f", {windows * session.config.context / max(seconds, 1e-9):,.0f} tokens/s"


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
    config, progress = session.config, session.progress
    where = f"diverged in epoch {progress.epoch + 1}, step {progress.step}"
    layers = unstable(session.system)
    if layers:
        names = ", ".join(map(repr, layers))
        raise Diverged(
            f"{where}: decorrelation of {names} would have blown up: "
            f"lower --decor-lr (now {config.decor_lr:g})"
        )
    explodes = session.task.measure.explodes
    if not math.isfinite(loss) or (explodes and loss > 10 * progress.first_loss):
        raise Diverged(
            f"{where}: loss {loss:.4g}, which started at {progress.first_loss:.4g}: "
            f"lower --lr (now {config.lr:g})"
        )
