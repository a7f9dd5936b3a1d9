"""The command line. Exit codes: 1 disk or pipe, 2 bad input, 3 diverged."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import nn
from tqdm import tqdm

from noisynets.bench import Result, read_suite, summaries
from noisynets.bench import bench as compare
from noisynets.bench.speed import QUICK, Ratio, speed
from noisynets.bench.speed import markdown as speed_table
from noisynets.checkpoint import write_atomically
from noisynets.complexity import complexity
from noisynets.config import DTYPES, Config, resolve, seeds, task_of
from noisynets.data import FROM_FILES, TASKS
from noisynets.data.store import fetch, home, missing, verify
from noisynets.devices import PRESETS, advance_
from noisynets.errors import InputError, NoisynetsError, unknown
from noisynets.evaluate import EVALUATION_BATCH, close, evaluate, threads
from noisynets.methods import METHODS
from noisynets.noise import Stream
from noisynets.report import draw_transfer
from noisynets.run_folder import RunFolder, create
from noisynets.session import build
from noisynets.session import settings as network
from noisynets.systems import ARCHITECTURES, FAMILIES, SYSTEMS
from noisynets.train import Data, load_data, load_test, open_session
from noisynets.train import train as run
from noisynets.transfer import panels

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
    build(config)  # refuse what cannot be built, and read, before anything is written
    files = task_of(config).files
    if files is not None and config.data_dir is None:
        fetch(files, say=lambda line: print(line, file=sys.stderr))
    data = load_data(config)
    _run(create(out, config), data)


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
    train_set, val_set = load_data(config)
    stream = Stream(seeds(config)["encoding"] + 1)
    chosen = (train_set if val_set is None else val_set).first(examples)
    batches = chosen.batches(EVALUATION_BATCH, DTYPES[config.dtype])
    with threads(session):
        found = complexity(session.system, ((session.encode(x, stream), y) for x, y in batches))
    folder.write("neurobench.json", found)
    for name, value in found.items():
        print(f"{name:20s} {value:,.4g}" if value % 1 else f"{name:20s} {value:,.0f}")


def data(
    action: tyro.conf.Positional[Literal["list", "fetch", "verify", "where"]],
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    data_dir: Path | None = None,
) -> None:
    """List, fetch or verify data sets, or say where they are.

    Args:
        action: fetch fills the cache; verify checks every file's md5 sum; where prints folders.
        names: of data sets; all that are known to be fetched, for verify and where.
        data_dir: a folder of your own to verify, instead of the cache ($NOISYNETS_DATA, or your
            user's cache folder).
    """
    known = {task.name: task.files for task in TASKS.values() if task.files is not None}
    for name in names:
        if name in TASKS and name not in known:
            raise InputError(f"{name}: comes with the package or is made on the spot")
        if name in FROM_FILES:
            raise InputError(f"{name}: {FROM_FILES[name]}")
        if name not in known:
            raise unknown("data set", name, known)
    if action == "fetch" and not names:
        raise InputError(f"fetch what? Known: {', '.join(known)}")
    chosen = {name: files for name, files in known.items() if name in names or not names}
    wrong = []
    for name, files in chosen.items():
        folder = data_dir or home() / name
        if action == "fetch":
            print(fetch(files, say=lambda line: print(line, file=sys.stderr)))
        elif action == "where":
            print(folder)
        elif action == "list":
            state = "not fetched" if missing(files, folder) else "there"
            print(f"{name:14s} {state:12s} {TASKS[name].summary}")
        elif names or not missing(files, folder):
            problems = verify(files, folder)
            print(f"{name}: {'; '.join(problems) or 'as published'}")
            wrong += problems and [name]
    if action == "list" and not names:
        for name, summary in FROM_FILES.items():
            print(f"{name:14s} {'your files':12s} {summary}")
    if wrong:
        raise InputError(f"{', '.join(wrong)}: remove the files, then: noisynets data fetch")


def bench(
    suite: tyro.conf.Positional[str],
    cases: tuple[str, ...] = (),
    rules: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (),
    candidates: int | None = None,
    epochs: int | None = None,
    data_dir: Path | None = None,
    jobs: int = 0,
    quick: bool = False,
    threads: int = 1,
    out: Path | None = None,
) -> None:
    """Compare rules on the cases of a suite, each with settings searched for as long.

    What is in --out already is not run again: the same command goes on where it was stopped. Leaves
    results.csv, results.md and pictures there, also of a part of the suite.

    Args:
        suite: `noisynets list` names them; or a TOML file of your own, as docs/benchmarks.md says;
            or speed, which times training steps.
        cases: some of the suite's. None given: all.
        rules: some of the suite's. None given: all.
        seeds: of the comparison; the first is also that of the search. None given: the suite's.
        candidates: settings to try for every rule. Unset: the suite's.
        epochs: of the comparison. Unset: the suite's.
        data_dir: folder (or file) with the tasks' files.
        jobs: runs at a time, each on one thread. 0: as many as there are cores.
        quick: of speed: small sizes, that only show that everything runs.
        threads: of speed: CPU threads.
        out: folder of the results. Unset: runs/bench/SUITE.
    """
    if suite == "speed":
        _speed(quick, threads, Path("runs/bench/speed") if out is None else out)
        return
    if quick or threads != 1:
        raise InputError("--quick and --threads are settings of speed alone")
    changes: dict[str, Any] = {"epochs": epochs, "data_dir": data_dir and str(data_dir)}
    changes = {name: value for name, value in changes.items() if value is not None}
    chosen = read_suite(suite, changes).only(cases, rules)
    if seeds or candidates is not None:
        chosen = replace(
            chosen,
            seeds=seeds or chosen.seeds,
            candidates=chosen.candidates if candidates is None else candidates,
        )
    if chosen.candidates < 1 or jobs < 0 or min(chosen.seeds) < 0:
        raise InputError("--candidates must be at least 1, --jobs and --seeds not negative")
    for config in {entry.config.task: entry.config for entry in chosen.entries}.values():
        files = task_of(config).files
        if files is not None and config.data_dir is None:
            fetch(files, say=lambda line: print(line, file=sys.stderr))
    path = Path("runs/bench") / chosen.name if out is None else out
    total = len(chosen.entries) * len(chosen.seeds)
    total += sum(chosen.candidates for entry in chosen.entries if not entry.tuned)
    where = None if data_dir is None else "DIR"
    given = {"cases": cases, "rules": rules, "seeds": seeds, "candidates": candidates}
    try:
        with tqdm(total=total, unit="run", dynamic_ncols=True) as bar:

            def each(result: Result) -> None:
                bar.set_postfix_str(result.run.path.name, refresh=False)
                bar.update()

            compare(
                chosen,
                path,
                jobs=jobs or os.cpu_count() or 1,
                command=_spelled("bench", suite, **given, epochs=epochs, data_dir=where),
                each=each,
            )
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on", file=sys.stderr)
        sys.exit(130)
    print((path / "results.md").read_text())
    print(f"{path}: {', '.join(sorted(p.name for p in path.iterdir() if p.is_file()))}")


def _speed(quick: bool, threads: int, out: Path) -> None:
    """Time training steps, and print and write the table."""
    if not 1 <= threads <= (os.cpu_count() or 1):
        raise InputError(f"--threads {threads}: this machine has {os.cpu_count()}")
    before, found = torch.get_num_threads(), list[Ratio]()
    torch.set_num_threads(threads)
    for ratio in speed(QUICK if quick else None):
        found.append(ratio)
        print(f"{ratio.median:6.2f}  {ratio.work}, against {ratio.against}", file=sys.stderr)
    torch.set_num_threads(before)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "speed.md", speed_table(found, threads).encode())
    print(speed_table(found, threads))


def show(
    system: tyro.conf.Positional[str],
    device_preset: str | None = None,
    intrinsic_noise: float | None = None,
    bits: int = 4,
    out: Path | None = None,
) -> None:
    """Draw what a system's first layer and unit do to an activity, with the band of their noise.

    Args:
        system: as for train.
        device_preset: simulated device under the layer, or none. Unset: the system's.
        intrinsic_noise: of the system's own. Unset: the system's.
        bits: of the units of quantised-mlp.
        out: the picture, a PNG. Unset: SYSTEM.png, or SYSTEM-PRESET.png, here.
    """
    given = Config(
        system=system, device_preset=device_preset, intrinsic_noise=intrinsic_noise, bits=bits
    )
    config = resolve(given)

    def build_with(points: int, chip: int) -> nn.Module:
        settings = replace(
            network(config), hidden=(points,), device_seed=chip, noise_seed=1000 * chip
        )
        return SYSTEMS[config.system].build((1, 1, 1), 1, settings)

    name = system if config.device_preset == "none" else f"{system}-{config.device_preset}"
    path = Path(f"{name}.png") if out is None else out
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: there is no folder {path.parent}")
    noise = f", own noise {config.intrinsic_noise:g}" if config.intrinsic_noise else ""
    device = "" if config.device_preset == "none" else f" on {config.device_preset}"
    draw_transfer(path, f"{system}{device}{noise}", panels(build_with))
    print(path)


def list_() -> None:
    """List the tasks, systems, devices and rules, with the rules' tuned settings."""
    print("tasks:")
    for task in TASKS.values():
        print(f"  {task.name:13s} {task.summary}")
        if task.reference:
            print(f"  {'':13s} reference: {task.reference}")
    for name, summary in FROM_FILES.items():
        print(f"  {name:13s} {summary}")
    print("systems (FAMILY-ARCHITECTURE, as in sign-conv; lif, noisy-lif, rlif: of an mlp):")
    for kind in (ARCHITECTURES, FAMILIES):
        for name, known in kind.items():
            print(f"  {name or '(none)':13s} {known.summary}")
    print("suites:")
    for name, summary in summaries().items():
        print(f"  {name:13s} {summary}")
    print("device presets:")
    for preset in PRESETS.values():
        print(f"  {preset.name:13s} {preset.summary}")
    width = max(len(method.summary) for method in METHODS.values())
    columns = ("lr   ", "sigma ", "sigma_in_noise", "decor_lr")
    print(f"{'rules:':8s}{'':{width}s}  {'  '.join(columns)}")
    for name, method in METHODS.items():
        cells = [f"{getattr(method, c.strip()) or '-':<{len(c)}}" for c in columns]
        print(f"  {name:5s} {method.summary:{width}s}  {'  '.join(cells)}".rstrip())


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `noisynets`."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            {
                "train": train,
                "resume": resume,
                "eval": eval_,
                "show": show,
                "neurobench": neurobench,
                "data": data,
                "bench": bench,
                "list": list_,
            },
            prog="noisynets",
            description="Train systems that gradients cannot: two forward passes, no derivatives.",
            args=args,
        )
    except NoisynetsError as error:
        print(f"noisynets: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, say: what was there before is there still
        print(f"noisynets: {error}; then go on with: noisynets resume RUN", file=sys.stderr)
        sys.exit(1)


def _spelled(*words: str, **options: Any) -> str:
    """Return a command line; options that are None or empty were not given.

    >>> _spelled("bench", "smoke", rules=("anp", "bp"), epochs=None, data_dir="a b")
    "noisynets bench smoke --rules anp bp --data-dir 'a b'"
    """
    parts = ["noisynets", *words]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        if values and value is not None:
            parts += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(parts)


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


if __name__ == "__main__":
    main()
