"""Train, continue, evaluate and weigh single runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from noisynets.core.errors import InputError
from noisynets.core.noise import Stream
from noisynets.diagnose import settled
from noisynets.diagnose.neurobench import complexity
from noisynets.run.evaluate import EVALUATION_BATCH, close, evaluate, threads
from noisynets.run.folder import RunFolder, create
from noisynets.run.session import build
from noisynets.run.settings import DTYPES, Config, resolve, seeds, task_of
from noisynets.run.train import Data, load_data, load_test, open_session
from noisynets.run.train import train as run
from noisynets.systems.devices import advance_
from noisynets.tasks.data.store import fetch

Out = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Folder of the run; must be new or empty. Unset: a free name under runs/.",
        metavar="PATH",
    ),
]


def train(config: Annotated[Config, tyro.conf.OmitArgPrefixes], out: Out = None) -> None:
    """Train a system on a task, then test it once."""
    config = resolve(config)
    auto = config.sigma == "auto"
    build(replace(config, sigma=1.0) if auto else config)  # refuse before anything is written
    data = loaded(config)
    if auto:
        config = settled(config, data[0])
        print(f"sigma {config.sigma:g}, the middle of what was measured to be good")
    _run(create(out, config), data)


def loaded(config: Config) -> Data:
    """Load what is trained on, and fetch it first if it has to be."""
    files = task_of(config).files
    if files is not None and config.data_dir is None:
        fetch(files, say=lambda line: print(line, file=sys.stderr))
    return load_data(config)


def resume(run: tyro.conf.Positional[Path], device: str | None = None) -> None:
    """Continue a run that was stopped, with the same bits as if it had not been.

    Args:
        run: folder of the run.
        device: auto, cpu or cuda. Unset: the run's own; another gives other bits.
    """
    folder = RunFolder(run)
    summary = folder.summary()
    if summary is not None and not summary["diverged"]:
        _report(folder, summary)
        return
    _run(folder, device=device)


def eval_(
    run: tyro.conf.Positional[Path],
    split: Literal["test", "validation", "train"] = "test",
    device: str | None = None,
    after: float = 0.0,
) -> None:
    """Evaluate the checkpoint of a run, in the system's own noise.

    Args:
        run: folder of the run.
        split: which examples. Reading the test set is yours to answer for.
        device: auto, cpu or cuda. Unset: the run's own.
        after: seconds that pass on the device before it is read; only pcm drifts.
    """
    folder = RunFolder(run)
    config = folder.config(device)
    if not folder.checkpoint.is_file():
        raise InputError(f"{run}: no checkpoint yet; continue with: noisynets resume {run}")
    session = open_session(folder, device)
    if split == "test":
        examples = load_test(config)
    else:
        train_set, val_set = load_data(config)
        if split == "validation" and val_set is None:
            raise InputError(f"{run}: trained with --final-fit, so there is no validation set")
        examples = train_set if split == "train" or val_set is None else val_set
    if after:
        if config.noise_during == "training":
            raise InputError(f"--after {after:g}: {run} has its device in training alone")
        advance_(session.system, after)
    with threads(session):
        loss, score = evaluate(session, examples)
        closing = close(session, ("val" if split == "validation" else split,))
    name = session.task.measure.name
    print(f"{split} {name} {score:.4f}, loss {loss:.4f} ({len(examples)} examples)")
    for name, value in closing.items():
        print(f"{name} {value:.4f}")


def neurobench(run: tyro.conf.Positional[Path], examples: int = 1000) -> None:
    """Print NeuroBench's metrics of a trained run: footprint, sparsities, synaptic operations.

    Args:
        run: folder of the run; the metrics go to neurobench.json in it.
        examples: of the validation set (with --final-fit, of the training set), at most.
    """
    if examples < 1:
        raise InputError(f"--examples {examples} must be at least 1")
    folder = RunFolder(run)
    config = folder.config("cpu")
    if not folder.checkpoint.is_file():
        raise InputError(f"{run}: no checkpoint yet; continue with: noisynets resume {run}")
    session = open_session(folder, "cpu")
    if session.task.world is not None:
        raise InputError(f"{run}: NeuroBench's metrics are of examples, not of episodes")
    train_set, val_set = load_data(config)
    stream = Stream(seeds(config)["encoding"] + 1)
    chosen = (train_set if val_set is None else val_set).first(examples)
    batches = chosen.batches(EVALUATION_BATCH, DTYPES[config.dtype])
    with threads(session):
        found = complexity(session.system, ((session.encode(x, stream), y) for x, y in batches))
    folder.write("neurobench.json", found)
    for name, value in found.items():
        print(f"{name:20s} {value:,.4g}" if value % 1 else f"{name:20s} {value:,.0f}")


def _run(folder: RunFolder, data: Data | None = None, device: str | None = None) -> None:
    try:
        summary = run(folder, data, device=device)
    except KeyboardInterrupt:
        print(f"\nstopped; continue with: noisynets resume {folder.path}", file=sys.stderr)
        sys.exit(130)
    _report(folder, summary)


def _report(folder: RunFolder, summary: dict[str, Any]) -> None:
    config = folder.config("auto")  # wherever it was run
    task = task_of(config)
    score = task.measure.name
    found = summary[f"test_{score}"]
    noises = [f"sigma {config.intrinsic_noise:g}"] if config.intrinsic_noise else []
    noises += [f"device {config.device_preset}"] if config.device_preset != "none" else []
    heard = noises and config.noise_during != "training"
    noise = f" in its own noise ({', '.join(noises)})" if heard else ""
    tested = "not tested" if found is None else f"test {score} {found:.4f}"
    if found is not None and task.closing is not None:
        tested += f", {task.closing.name} {summary[f'test_{task.closing.name}']:.4f}"
    print(f"{tested}{noise}, {summary['seconds']:.0f} s of training, {folder.curves}")
