"""Checkpoints that are kept beside the last one, the best epoch, and when to stop early."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError
from noisynets.run.checkpoint import load_state, save_state
from noisynets.run.folder import RunFolder
from noisynets.run.session import Session
from noisynets.tasks.data import Measure


def best_epoch(rows: Sequence[dict[str, Any]], measure: Measure) -> int:
    """Return the first epoch with the best validation score; 0 if there is no row.

    Args:
        rows: of metrics.csv.
        measure: of the task.

    >>> from noisynets.tasks.data import ACCURACY
    >>> best_epoch([{"val_accuracy": 0.7}, {"val_accuracy": 0.9}, {"val_accuracy": 0.9}], ACCURACY)
    2
    """
    scores = [row[f"val_{measure.name}"] for row in rows]
    if not scores or None in scores:
        return len(scores)
    return 1 + scores.index(max(scores) if measure.higher else min(scores))


def exhausted(patience: int, rows: Sequence[dict[str, Any]], measure: Measure) -> bool:
    """Return True if the validation score has not improved for so many epochs.

    Args:
        patience: number of epochs; 0: there is no such end.
        rows: of metrics.csv.
        measure: of the task.
    """
    return 0 < patience <= len(rows) - best_epoch(rows, measure)


def judged_epoch(session: Session) -> int:
    """Return the epoch whose weights are the run's result: the best one, or the last one."""
    rows = session.progress.rows
    return best_epoch(rows, session.task.measure) if session.config.keep == "best" else len(rows)


def of_epoch(folder: RunFolder, epoch: int) -> Path:
    """Return the path of the checkpoint of an epoch, in a run that keeps all."""
    return folder.path / f"epoch-{epoch:04d}.safetensors"


def best(folder: RunFolder) -> Path:
    """Return the path of the checkpoint of the best epoch, in a run that keeps it."""
    return folder.path / "best.safetensors"


def keep_checkpoint(folder: RunFolder, session: Session) -> None:
    """Write the further checkpoint of an epoch that has just ended, if the settings ask for one."""
    epoch, keep = session.progress.epoch, session.config.keep
    if keep == "all":
        save_state(of_epoch(folder, epoch), session.state())
    elif keep == "best" and judged_epoch(session) == epoch:
        save_state(best(folder), session.state())


def use_judged_(folder: RunFolder, session: Session, epoch: int | None = None) -> None:
    """Give the system the weights of the run's result, or of an epoch.

    Args:
        folder: of the run.
        session: at the state of its last checkpoint.
        epoch: None: the one that is the run's result.

    Raises:
        InputError: if the checkpoint of that epoch was not kept, or is damaged.
    """
    progress, keep = session.progress, session.config.keep
    if epoch is None and (keep != "best" or not progress.rows):
        return
    wanted, last = judged_epoch(session) if epoch is None else epoch, progress.epoch
    if wanted == last and not progress.step:
        return
    keeps_best = keep == "best" and wanted == judged_epoch(session)
    path = best(folder) if keeps_best else of_epoch(folder, wanted)
    if not path.is_file():
        raise InputError(
            f"{folder.path}: has no checkpoint of epoch {wanted}, but of epoch {last}: train with "
            "--keep all to have them all"
        )
    state = load_state(path)
    try:
        session.system.load_state_dict(state["system"])
    except Exception as error:  # modules raise errors of many kinds
        raise InputError(f"{path}: is not of this run: remove it") from error
