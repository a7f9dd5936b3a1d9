"""The result of a run: its evaluation, its pictures, and summary.json, which is written last."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.trial import RollOut
from noisynets.run.checkpoint import write_atomically
from noisynets.run.data import load_test
from noisynets.run.evaluate import close, evaluate, evaluate_outputs, evaluating, recorded
from noisynets.run.folder import RunFolder
from noisynets.run.kept import judged_epoch
from noisynets.run.report import draw_curves, draw_spikes
from noisynets.run.session import Session, steps_per_epoch
from noisynets.run.summary import WRITES
from noisynets.run.trust import resuming
from noisynets.systems.pulses import writes
from noisynets.systems.spiking import Recording
from noisynets.tasks.data import Examples


def conclude(
    folder: RunFolder, session: Session, train_set: Examples, val_set: Examples | None
) -> dict[str, Any]:
    """Evaluate a trained system, draw its pictures, write summary.json and return its contents.

    The file is written last. A run that was stopped before is concluded once more when it is
    resumed, from its checkpoint and so with the same numbers.
    """
    summary = _judged(folder, session, _part(train_set, val_set))
    if session.task.vocabulary:
        summary["tokens_per_second"] = _tokens_per_second(session, len(train_set))
    recordings = recorded(session, train_set if val_set is None else val_set)
    if recordings:
        summary["spikes_per_step"] = {r.name: round(r.rate, 5) for r in recordings}
    if isinstance(session.system, RollOut):
        summary["environment_steps"] = int(session.system.steps)
    summary["pictures"] = draw(folder, session, summary, recordings)
    folder.write_summary(summary)
    return summary


def _part(train_set: Examples, val_set: Examples | None) -> Examples:
    """Return the training examples to evaluate on: of a text, as much as of the validation set."""
    if train_set.text is None or val_set is None:
        return train_set
    return train_set.first(len(val_set))


def _tokens_per_second(session: Session, examples: int) -> float:
    """Return how many characters of a text were learned per second of training."""
    c, progress = session.config, session.progress
    steps = steps_per_epoch(c, examples)
    seen = progress.epoch * min(steps * c.batch_size, examples) * c.context
    return round(seen / max(progress.seconds, 1e-3), 1)


def draw(
    folder: RunFolder,
    session: Session,
    summary: dict[str, Any],
    recordings: list[Recording],
    wanted: Collection[str] | None = None,
) -> list[str]:
    """Draw the curves, the spikes of neurons, and the task's own pictures; return their names.

    Args:
        folder: of the run.
        session: of the trained system.
        summary: contents of summary.json.
        recordings: of the system's neurons, if it has any.
        wanted: the names of those to draw; None: all.
    """
    curves, spikes = folder.curves.name, folder.spikes.name
    made = []
    if wanted is None or curves in wanted:
        draw_curves(folder.curves, session.progress.rows, summary, session.task.measure)
        made.append(curves)
    if recordings and (wanted is None or spikes in wanted):
        title = "{task}, {system}, rule {rule}, seed {seed}".format(**summary)
        draw_spikes(folder.spikes, title, recordings)
        made.append(spikes)
    own = wanted is None or bool(set(wanted) - {curves, spikes})
    if own and session.task.pictures is not None:
        with evaluating(session.system):
            for name, image in session.task.pictures(session.system).items():
                write_atomically(folder.path / name, image)
                made.append(name)
    return made


def missing(folder: RunFolder, summary: dict[str, Any]) -> list[str]:
    """Name the pictures of a finished run that are not in its folder."""
    drawn = [folder.curves.name]  # by versions that did not write down what they had drawn
    drawn += [folder.spikes.name] if "spikes_per_step" in summary else []
    names = summary.get("pictures")
    names = [] if summary["diverged"] else drawn if names is None else names
    return [name for name in names if not (folder.path / name).is_file()]


def _judged(folder: RunFolder, session: Session, train_set: Examples) -> dict[str, Any]:
    """Evaluate a trained system, on the test set too if the settings say so; return the summary."""
    test, name = session.config.test, session.task.measure.name
    results, by_output = {}, None
    if test:
        try:
            test_set = load_test(session.config)
        except InputError as error:
            raise InputError(f"{error}; then: {resuming(folder.path, session.config)}") from error
        loss, score, by_output = evaluate_outputs(session, test_set)
        results["test"] = loss, score
    results["train"] = evaluate(session, train_set)
    closing = close(session, ("val", "test") if test else ("val",))
    summary = summarised(session, results, diverged=False) | closing
    return summary if by_output is None else summary | {f"test_{name}_by_output": by_output}


def summarised(
    session: Session, results: dict[str, tuple[float, float]], *, diverged: bool
) -> dict[str, Any]:
    """Return the contents of summary.json.

    Args:
        session: of the run.
        results: loss and score on 'test' and 'train', where these were evaluated.
        diverged: whether the run has diverged.
    """
    config, progress = session.config, session.progress
    epoch = len(progress.rows) if diverged else judged_epoch(session)
    row = progress.rows[epoch - 1] if progress.rows else {}
    score = session.task.measure.name
    known = {
        f"test_{score}": results["test"][1] if "test" in results else None,
        "test_loss": results["test"][0] if "test" in results else None,
        f"val_{score}": row.get(f"val_{score}"),
        f"train_{score}": results["train"][1] if "train" in results else None,
        "epoch": epoch,
        "sample_forwards": progress.sample_forwards,
        "seconds": round(progress.seconds, 3),
        "peak_memory_mb": _peak_memory_mb(config.device),
        "task": config.task,
        "system": config.system,
        "rule": config.rule,
        "seed": config.seed,
        "diverged": diverged,
        "notes": session.notes(),
    }
    return known if config.writes is None else known | _written(session.system)


def _written(system: nn.Module) -> dict[str, Any]:
    """Return how often the devices of a system were written, for summary.json."""
    layers = writes(system)
    pulses = sum(each.pulses for each in layers.values())
    energies = [each.energy for each in layers.values() if each.energy is not None]
    return {
        WRITES: pulses / sum(each.weights for each in layers.values()),
        "writes_by_layer": {name: round(each.per_weight, 6) for name, each in layers.items()},
        "most_writes_of_a_device": max(each.largest for each in layers.values()),
        "pulses": pulses,
        "worn_devices": sum(each.worn for each in layers.values()),
        "write_energy_joules": sum(energies) if len(energies) == len(layers) else None,
    }


def _peak_memory_mb(device: str) -> float | None:
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
