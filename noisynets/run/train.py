"""The training loop: train on batches, evaluate on validation after each epoch, test once."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from noisynets.core.decorrelation import unstable
from noisynets.core.errors import BoxFailed, Diverged, InputError
from noisynets.core.trial import RollOut
from noisynets.run.checkpoint import load_state, save_state, write_atomically
from noisynets.run.evaluate import (
    EVALUATION_BATCH,
    close,
    evaluate,
    evaluate_outputs,
    evaluating,
    recorded,
    threads,
)
from noisynets.run.folder import RunFolder, create
from noisynets.run.report import draw_curves, draw_spikes
from noisynets.run.session import Meter, Session, build
from noisynets.run.settings import DTYPES, Config, seeds, task_of
from noisynets.run.trust import Trust, resuming
from noisynets.systems.spiking import Recording
from noisynets.tasks.data import Examples

GUARD_STEPS = 50
CHECKPOINT_SECONDS = 60.0


Data = tuple[Examples, Examples | None]
"""Training and validation examples; None: all examples are trained on."""


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
        InputError: for settings, data or a checkpoint that cannot be used.
        Diverged: if the loss is not finite or above 10 times its start; the last good
            checkpoint stays.
    """
    session = open_session(folder, device)
    train_set, val_set = load_data(session.config) if data is None else data
    with threads(session):
        try:
            _run_epochs(folder, session, train_set, val_set, progress_bar)
            session.keep_()
            summary = _judged(folder, session, train_set)
        except Diverged:
            folder.write_summary(_summary(session, {}, diverged=True))
            raise
        except BoxFailed as error:  # the last whole step is kept
            _save(folder, session, session.resumable())
            raise BoxFailed(f"{error}; then: {resuming(folder.path, session.config)}") from error
        recordings = recorded(session, train_set if val_set is None else val_set)
    if recordings:
        summary["spikes_per_step"] = {r.name: round(r.rate, 5) for r in recordings}
    if isinstance(session.system, RollOut):
        summary["environment_steps"] = int(session.system.steps)
    folder.write_summary(summary)
    _draw(folder, session, summary, recordings)
    return summary


def _judged(folder: RunFolder, session: Session, train_set: Examples) -> dict[str, Any]:
    """Evaluate a trained system, on the test set too if the settings say so; return the summary."""
    test, name = session.config.test, session.task.measure.name
    results, by_output = {}, None
    if test:
        try:
            test_set = load_test(session.config)
        except InputError as error:
            raise InputError(f"{error}; then: noisynets resume {folder.path}") from error
        loss, score, by_output = evaluate_outputs(session, test_set)
        results["test"] = loss, score
    results["train"] = evaluate(session, train_set)
    closing = close(session, ("val", "test") if test else ("val",))
    summary = _summary(session, results, diverged=False) | closing
    return summary if by_output is None else summary | {f"test_{name}_by_output": by_output}


def _draw(
    folder: RunFolder, session: Session, summary: dict[str, Any], recordings: list[Recording]
) -> None:
    """Draw the curves, the spikes of neurons, and the task's own pictures."""
    draw_curves(folder.curves, session.progress.rows, summary, session.task.measure)
    if recordings:
        title = "{task}, {system}, rule {rule}, seed {seed}".format(**summary)
        draw_spikes(folder.spikes, title, recordings)
    if session.task.pictures is not None:
        with evaluating(session.system):
            for name, image in session.task.pictures(session.system).items():
                write_atomically(folder.path / name, image)


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


def load_data(config: Config) -> Data:
    """Load the examples to train and to validate on, onto the device of the run.

    Raises:
        InputError: for files that are missing or damaged, or examples that make no sense.
    """
    train_set, val_set = task_of(config).training(_data_dir(config), config.final_fit)
    if config.standardise:
        val_set = None if val_set is None else val_set.standardised(train_set)
        train_set = train_set.standardised(train_set)
    if config.encoder in ("rate", "latency"):
        for part in (train_set, *([] if val_set is None else [val_set])):
            least = -1.0 if config.standardise else float(part.x.min())
            if least < 0:
                raise InputError(
                    f"--encoder {config.encoder}: {config.task} has inputs down to {least:g}: use "
                    "current or delta"
                )
    device = torch.device(config.device)
    return train_set.to(device), None if val_set is None else val_set.to(device)


def load_test(config: Config) -> Examples:
    """Load the test set, which is read once, after all settings are chosen."""
    test_set = task_of(config).test(_data_dir(config))
    if config.standardise:
        train_set, _ = task_of(config).training(_data_dir(config), config.final_fit)
        test_set = test_set.standardised(train_set)
    return test_set.to(torch.device(config.device))


def _data_dir(config: Config) -> Path | None:
    return None if config.data_dir is None else Path(config.data_dir)


def open_session(folder: RunFolder, device: str | None = None) -> Session:
    """Build the session of a run, at the state of its checkpoint if there is one.

    Args:
        folder: of the run.
        device: instead of the run's own.
    """
    session = build(folder.config(device))
    if folder.checkpoint.is_file():
        state = load_state(folder.checkpoint)
        try:
            session.restore_(state)
        except InputError as error:
            raise InputError(f"{folder.checkpoint}: {error}") from error
    return session


def _run_epochs(
    folder: RunFolder,
    session: Session,
    train_set: Examples,
    val_set: Examples | None,
    progress_bar: bool,
) -> None:
    config, progress, score = session.config, session.progress, session.task.measure.name
    if not folder.checkpoint.is_file():
        _save(folder, session)
    folder.write_metrics(progress.rows, score)
    steps = math.ceil(len(train_set) / config.batch_size)
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
        while progress.epoch < config.epochs:
            _run_epoch(folder, session, train_set, bar)
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
            progress.rows.append(row)
            session.meter = Meter.zero(train_set.y.device, session.task.measure)
            _save(folder, session)
            folder.write_metrics(progress.rows, score)


def _run_epoch(folder: RunFolder, session: Session, train_set: Examples, bar: Any) -> None:
    """Finish the present epoch, from the present step on."""
    config, progress = session.config, session.progress
    order = _order(config, progress.epoch, len(train_set)).to(train_set.y.device)
    batches = order.split(config.batch_size)
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
            _check_divergence(session, loss)
            where = f"epoch {progress.epoch + 1}/{config.epochs}"
            bar.set_postfix_str(f"{where}, loss {loss:.4f}", refresh=False)
            guard = Meter.zero(train_set.y.device, session.task.measure)
            now = time.perf_counter()
            progress.seconds, clock = progress.seconds + now - clock, now
            if now - saved > CHECKPOINT_SECONDS and progress.step < len(batches):
                _save(folder, session)
                saved = now


def _save(folder: RunFolder, session: Session, state: dict[str, Any] | None = None) -> None:
    """Write the checkpoint, unless the last update has made a weight infinite or NaN."""
    if not all(bool(p.isfinite().all()) for p in session.system.parameters()):
        _check_divergence(session, math.nan)
    save_state(folder.checkpoint, session.state() if state is None else state)


def _order(config: Config, epoch: int, n: int) -> torch.Tensor:
    """Return the order of examples in an epoch: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed(seeds(config)["order"] + epoch)
    return torch.randperm(n, generator=generator)


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


def _summary(
    session: Session, results: dict[str, tuple[float, float]], *, diverged: bool
) -> dict[str, Any]:
    config, progress = session.config, session.progress
    last = progress.rows[-1] if progress.rows else {}
    score = session.task.measure.name
    return {
        f"test_{score}": results["test"][1] if "test" in results else None,
        "test_loss": results["test"][0] if "test" in results else None,
        f"val_{score}": last.get(f"val_{score}"),
        f"train_{score}": results["train"][1] if "train" in results else None,
        "sample_forwards": progress.sample_forwards,
        "seconds": round(progress.seconds, 3),
        "peak_memory_mb": _peak_memory_mb(config.device),
        "task": config.task,
        "system": config.system,
        "rule": config.rule,
        "seed": config.seed,
        "diverged": diverged,
    }


def _peak_memory_mb(device: str) -> float | None:
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
