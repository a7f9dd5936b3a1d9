"""Train, resume and evaluate single runs, and count their operations."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.noise import Stream
from noisynets.core.settings import REQUIRED, setting
from noisynets.core.values import made
from noisynets.diagnose import settled
from noisynets.diagnose.neurobench import complexity
from noisynets.run.checkpoint import load_state, write_atomically
from noisynets.run.data import Data, load_data, load_others, load_test
from noisynets.run.evaluate import EVALUATION, EVALUATION_BATCH, close, evaluate, threads
from noisynets.run.folder import RunFolder, create
from noisynets.run.kept import exhausted
from noisynets.run.schedule import extension
from noisynets.run.session import check_settings
from noisynets.run.settings import DTYPES, Config, resolve, seeds, task_of
from noisynets.run.settings.files import read_settings, toml
from noisynets.run.train import open_trained, redraw
from noisynets.run.train import train as run
from noisynets.run.transfer import begun
from noisynets.run.trust import NotTrusted, Trust, TrustSettings, resuming
from noisynets.systems.devices import advance_
from noisynets.systems.settings import BoxSettings
from noisynets.tasks.data.store import fetch


@dataclass(frozen=True, kw_only=True)
class TrainArguments(TrustSettings):
    """Arguments of `noisynets train`, beside the settings of the run."""

    out: Path | None = setting(
        None, "Folder of the run; must be new or empty. Unset: a free name under runs/."
    )
    config: Path | None = setting(
        None,
        "TOML file with settings, as --save-config writes it; options of the command line replace "
        "those of the file.",
        metavar="FILE",
    )
    save_config: Path | None = setting(
        None,
        "Write all settings, with the unset ones filled in, to a TOML file, and do not train.",
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class RunArguments(BoxSettings, TrustSettings):
    """Arguments of commands about a run."""

    run: Path = setting(REQUIRED, "Folder of the run.", metavar="RUN", positional=True)
    box: str | None = setting(
        None,
        "Command of the run's box, which is run only if it is given here too, or with --trust.",
        metavar="COMMAND",
    )

    @property
    def folder(self) -> RunFolder:
        """The run, with permission to run what this command line names."""
        named = frozenset(() if self.box is None else (self.box,))
        return RunFolder(self.run, Trust(named, self.trust), self.box_timeout)


@dataclass(frozen=True, kw_only=True)
class ResumeArguments(RunArguments):
    """Arguments of `noisynets resume`."""

    device: str | None = setting(
        None, "auto, cpu or cuda. Unset: the run's own; another gives other bits."
    )
    epochs: int | None = setting(
        None,
        "Epochs in all, to go on with a finished run; the schedule is then that of so many, so "
        "that cosine raises the learning rate again. Unset: the run's own.",
        at_least=1,
    )
    patience: int | None = setting(
        None, "Instead of the run's own: see train. 0: do not end early.", at_least=0
    )


@dataclass(frozen=True, kw_only=True)
class EvalArguments(RunArguments):
    """Arguments of `noisynets eval`."""

    split: str = setting(
        "test",
        "Examples: test, validation or train. Choose no settings by the test set.",
        choices=("test", "validation", "train"),
    )
    data_dir: Path | None = setting(
        None,
        "Other files to evaluate on, as for train; of pictures or arrays without parts, all of "
        "them. Unset: the run's own.",
    )
    device: str | None = setting(None, "auto, cpu or cuda. Unset: the run's own.")
    epoch: int | None = setting(
        None,
        "Of a run with --keep all, the epoch whose weights are evaluated. Unset: the best one with "
        "--keep best, else the last one.",
        at_least=1,
    )
    after: float = setting(
        0.0,
        "Time that passes on the device before it is read; only pcm drifts.",
        unit="seconds",
    )


@dataclass(frozen=True, kw_only=True)
class NeurobenchArguments(RunArguments):
    """Arguments of `noisynets neurobench`."""

    examples: int = setting(
        1000,
        "Examples of the validation set (with --final-fit, of the training set), at most.",
        at_least=1,
    )


def configured(arguments: TrainArguments, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the command line, and those of the file that it names.

    Raises:
        InputError: if the file cannot be used, or names code that the command line does not name.
    """
    if arguments.config is None:
        return given
    found = read_settings(arguments.config) | given
    trust = Trust(Trust.of(made(Config, given)).named, arguments.trust)
    try:
        trust.check(made(Config, found))
    except NotTrusted as error:
        raise NotTrusted(f"{arguments.config}: {error}") from error
    return found


def train(arguments: TrainArguments, config: Config) -> None:
    """Train a system on a task, then test it once."""
    if arguments.save_config is not None:
        text = toml(replace(resolve(config), device=config.device))
        write_atomically(arguments.save_config, text.encode())
        print(f"{arguments.save_config}: train with: noisynets train --config FILE")
        return
    config = resolve(config)
    auto = config.sigma == "auto"
    begun(replace(config, sigma=1.0) if auto else config)  # refuse before anything is written
    data = loaded(config)
    if auto:
        config = settled(config, data[0])
        print(f"sigma {config.sigma:g}, the middle of what was measured to be good")
    run_folder(create(arguments.out, config), data)


def loaded(config: Config) -> Data:
    """Load the examples of a run; fetch missing files, and say how own files were understood."""
    task = task_of(config)
    if task.files is not None and config.data_dir is None:
        fetch(task.files, say=lambda line: print(line, file=sys.stderr))
    if config.data_dir is not None or task.own is not None:
        print(f"{task.name}: {task.summary}")
    if task.own is not None:
        print("\n".join(task.own.understood))
        if config.steps:
            print(f"T = {config.steps} time steps in {config.system}")
    return load_data(config)


def resume(arguments: ResumeArguments) -> None:
    """Continue a run that was stopped, with the same bits as if it had not been."""
    folder = arguments.folder
    given = {"epochs": arguments.epochs, "patience": arguments.patience}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    before = folder.config(arguments.device or "auto")
    config = resolve(replace(before, **changes))
    state = load_state(folder.checkpoint) if folder.checkpoint.is_file() else {}
    check_settings(state, config)
    changed = {n: v for n, v in changes.items() if getattr(before, n) != v}
    if changed:
        folder.extend(**changed)
    progress = state.get("progress", {})
    done, rows = progress.get("epoch", config.epochs), progress.get("rows", [])
    for note in extension(config, before.epochs, done).values():
        print(f"noisynets: {note}", file=sys.stderr)
    summary = folder.summary()
    complete = done == config.epochs or exhausted(config.patience, rows, task_of(config).measure)
    if summary is None or summary["diverged"] or not complete:
        run_folder(folder, device=arguments.device)
        return
    for name in redraw(folder, summary, arguments.device):
        print(f"{folder.path / name}: was missing, and is drawn again", file=sys.stderr)
    option = "--epochs" if done == config.epochs else "--patience"
    ended = f"has ended after epoch {done}: a higher {option} continues it"
    print(f"{folder.path}: {ended}", file=sys.stderr)
    _report(folder, summary)


def eval_(arguments: EvalArguments) -> None:
    """Evaluate the checkpoint of a run, in the system's own noise."""
    run, split, device = arguments.run, arguments.split, arguments.device
    folder = arguments.folder
    config = folder.config(device)
    session = open_trained(folder, device, arguments.epoch)
    if arguments.data_dir is not None:
        examples = load_others(config, arguments.data_dir, split)
    elif split == "test":
        examples = load_test(config)
    else:
        train_set, val_set = load_data(config)
        if split == "validation" and val_set is None:
            raise InputError(f"{run}: trained with --final-fit, so there is no validation set")
        examples = train_set if split == "train" or val_set is None else val_set
    if arguments.after:
        if config.noise_during == "training":
            raise InputError(f"--after {arguments.after:g}: {run} has its device in training alone")
        advance_(session.system, arguments.after)
    with threads(session):
        loss, score = evaluate(session, examples)
        closing = close(session, ("val" if split == "validation" else split,))
    name = session.task.measure.name
    where = split if arguments.data_dir is None else f"{arguments.data_dir}:"
    print(f"{where} {name} {score:.4f}, loss {loss:.4f} ({len(examples)} examples)")
    for name, value in closing.items():
        print(f"{name} {value:.4f}")


def neurobench(arguments: NeurobenchArguments) -> None:
    """Print NeuroBench's metrics of a trained run: footprint, sparsities, synaptic operations.

    They also go to neurobench.json in the folder of the run.
    """
    run = arguments.run
    folder = arguments.folder
    config = folder.config("cpu")
    session = open_trained(folder, "cpu")
    if session.task.world is not None:
        raise InputError(f"{run}: NeuroBench's metrics are of examples, not of episodes")
    train_set, val_set = load_data(config)
    stream = Stream(seeds(config)["encoding"], EVALUATION)
    chosen = (train_set if val_set is None else val_set).first(arguments.examples)
    batches = chosen.batches(EVALUATION_BATCH, DTYPES[config.dtype])
    with threads(session):
        found = complexity(session.system, ((session.encode(x, stream), y) for x, y in batches))
    folder.write("neurobench.json", found)
    for name, value in found.items():
        print(f"{name:20s} {value:,.4g}" if value % 1 else f"{name:20s} {value:,.0f}")


def run_folder(folder: RunFolder, data: Data | None = None, device: str | None = None) -> None:
    """Train the run in a folder, and print its result."""
    try:
        summary = run(folder, data, device=device)
    except (KeyboardInterrupt, OSError) as error:  # what was saved before is there still
        error.add_note(f"continue with: {resuming(folder.path, folder.config('auto'))}")
        raise
    _report(folder, summary)


def _report(folder: RunFolder, summary: dict[str, Any]) -> None:
    config = folder.config("auto")  # wherever it was run
    task = task_of(config)
    score = task.measure.name
    found = summary[f"test_{score}"]
    if config.box is not None:  # --intrinsic-noise is that of simulated chips
        noises = ["that of its box"]
    else:
        noises = [f"sigma {config.intrinsic_noise:g}"] if config.intrinsic_noise else []
    noises += [f"device {config.device_preset}"] if config.device_preset != "none" else []
    active = noises and config.noise_during != "training"
    noise = f" in its own noise ({', '.join(noises)})" if active else ""
    tested = "not tested" if found is None else f"test {score} {found:.4f}"
    if found is not None and task.closing is not None:
        tested += f", {task.closing.name} {summary[f'test_{task.closing.name}']:.4f}"
    print(f"{tested}{noise}, {summary['seconds']:.0f} s of training, {folder.curves}")
