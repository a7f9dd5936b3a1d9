"""What becomes of runs that are killed, of full disks, and of two processes on one folder.

    python tests/campaign.py RESULTS.jsonl [--trials N] [--only killed full two]
    python tests/campaign.py RESULTS.jsonl --table

Every trial is a line of the results, and is not repeated when the script is started again. The
exit code is 1 if a trial has found a problem. The last results are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import errno
import gc
import io
import itertools
import json
import math
import os
import random
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from matplotlib.figure import Figure
from tiny import TASK, final, same

from noisynets.cli import main
from noisynets.run.folder import RunFolder
from noisynets.tasks.data import TASKS

CASES = {
    "mlp": "--system mlp --rule anp",
    "conv": "--system conv --hidden 4 --rule anp",
    "lif": "--system lif --steps 3 --hidden 8",
    "noisy": "--system noisy-mlp --hidden 8",
    "device": "--system analog-mlp --hidden 8",
    "numpy-box": "--system numpy-box --hidden 8",
    "process-box": "--system process-box --hidden 8",
    "policy": "--system mlp-policy --hidden 8",
    "decorrelated": "--system mlp --rule danp --hidden 8",
}
"""What is special about the systems of the runs."""
TINY, REAL = "--epochs 4 --batch-size 10 --threads 1", "--epochs 3 --threads 1"
"""Settings in a fork, on the task of the tests, and in a new process, on one of the package's."""
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
CODES = {"KILL": -9, "TERM": 143, "INT": 130}
EARLY = 0.1
"""Processor seconds in which Python itself starts, before noisynets can handle signals."""
PATIENCE = 600.0
"""Seconds after which a process counts as hanging."""
LINES = 2
"""Lines on standard error, at most: that of the progress bar, and that of an error."""

Trial = dict[str, Any]

finish: Callable[[int], NoReturn] = vars(os)["_exit"]
"""Ends a fork; the standard library documents it, although it has an underscore."""


class Process:
    """The command `noisynets`, in a new process, or in a fork of this one, which has imported it.

    Args:
        words: of the command line.
        forked: take a fork, which spares the time of imports.
        before: called in a fork before the command.
    """

    def __init__(
        self, words: list[str], forked: bool = True, before: Callable[[], object] | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile()
        self._started = time.monotonic()
        if forked:
            self.pid = os.fork()
            if self.pid == 0:
                self._child(words, before)
        else:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "noisynets.cli", *words],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_DUP2, self._errors.fileno(), 2),
                ],
            )

    def _child(self, words: list[str], before: Callable[[], object] | None) -> NoReturn:
        code = 1
        try:
            os.dup2(self._errors.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv = ["noisynets", *words]
            if before is not None:
                before()
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            finish(code)

    def cpu(self) -> float:
        """Processor seconds so far; infinite if it has ended."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return math.inf
        ended = fields[0] == "Z"
        return math.inf if ended else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_for(self, seconds: float) -> None:
        """Wait until it has used so many processor seconds, or has ended."""
        while self.cpu() < seconds:
            time.sleep(0.002)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)  # it is waited for afterwards: the number is not used again

    def end(self) -> tuple[int, list[str], float]:
        """Exit code, the lines on standard error (progress bars are one), processor seconds."""
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - self._started > PATIENCE:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return 999, ["hangs"], math.inf
            time.sleep(0.01)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().split("\n")
        self._errors.close()
        code = os.waitstatus_to_exitcode(status)
        return (
            code,
            [line.split("\r")[-1] for line in lines if line],
            usage.ru_utime + usage.ru_stime,
        )


def train(case: str, out: Path, forked: bool = True) -> list[str]:
    """The command line of a case."""
    settings = [*CASES[case].split(), "--out", str(out)]
    if "policy" in CASES[case]:
        return ["train", "cartpole", *settings, *"--epochs 1 --batch-size 100 --threads 1".split()]
    if forked:
        return ["train", "tiny", *settings, *TINY.split()]
    return ["train", "mnist" if case == "conv" else "yinyang", *settings, *REAL.split()]


def again(case: str, out: Path, forked: bool = True) -> list[str]:
    """The command line with which a user continues: resume, or train if nothing was written."""
    return ["resume", str(out)] if (out / "config.json").exists() else train(case, out, forked)


def completed(case: str, out: Path, whole: Path, forked: bool = True) -> list[str]:
    """Continue a run, and name what differs from the uninterrupted one."""
    code, errors, _ = Process(again(case, out, forked)).end()
    if code:
        return [f"resume ends with {code}: {errors[-1:]}"]
    found = [] if same(final(RunFolder(out)), final(RunFolder(whole))) else ["other bits"]
    one, other = (json.loads((path / "summary.json").read_text()) for path in (out, whole))
    scores = [key for key in other if key.startswith(("test_", "val_", "train_", "spikes"))]
    found += [f"other {key}" for key in scores if one[key] != other[key]]
    names = {path: {p.name for p in path.iterdir()} for path in (out, whole)}
    if names[out] != names[whole]:
        found.append(f"other files: {sorted(names[out] ^ names[whole])}")
    return found


def whole(case: str, work: Path, forked: bool = True) -> tuple[Path, float]:
    """The uninterrupted run of a case, made once, and the processor seconds that it took."""
    name = case if forked else f"{case}-real"
    out, clock = work / f"{name}-whole", work / f"{name}-seconds"
    if not clock.exists():
        shutil.rmtree(out, ignore_errors=True)
        code, errors, seconds = Process(train(case, out, forked), forked).end()
        assert code == 0, errors
        clock.write_text(str(seconds))
    return out, float(clock.read_text())


def fresh(work: Path, name: str) -> Path:
    shutil.rmtree(work / name, ignore_errors=True)
    return work / name


def untidy(code: int, errors: list[str]) -> list[str]:
    """Name what is wrong with the end of a process."""
    if len(errors) > LINES:
        return [f"{len(errors)} lines: {errors[0]!r} ... {errors[-1]!r}"]
    if code > 0 and not (errors and errors[-1].startswith("noisynets: ")):
        return [f"says {errors}"]
    return []


def killed(number: int, work: Path) -> Trial:
    """A signal at a random moment between the start and the end of a run."""
    rng = random.Random(number)
    case = list(CASES)[number % len(CASES)]
    name = list(SIGNALS)[number // len(CASES) % len(SIGNALS)]
    forked = rng.random() > 0.1
    reference, seconds = whole(case, work, forked)
    moment = rng.uniform(0, seconds)
    out = fresh(work, "killed")
    process = Process(train(case, out, forked), forked)
    process.wait_for(moment)
    files = sorted(p.name for p in out.iterdir()) if out.exists() else []
    process.send(SIGNALS[name])
    code, errors, _ = process.end()
    early = not forked and moment < EARLY
    problems = []
    if not early:
        problems = untidy(code, errors)
        problems += [] if code in (0, CODES[name]) else [f"ends with {code}"]
    problems += completed(case, out, reference, forked)
    return {
        "case": case, "signal": name, "forked": forked, "moment": round(moment, 2),
        "of": round(seconds, 2), "early": early, "files": files, "code": code,
        "errors": errors[-1:], "problems": problems,
    }  # fmt: skip


def full(number: int, work: Path) -> Trial:
    """A file that may not grow beyond a size, or a disk that is full from some write on."""
    rng = random.Random(number)
    case = list(CASES)[number % len(CASES)]
    reference, _ = whole(case, work)
    out = fresh(work, "full")
    if number % 2:
        kind, limit = "largest file", int(10 ** rng.uniform(2.5, 5.5))
        before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    else:
        kind, limit = "writes", rng.randrange(12)
        before = partial(fill_disk, limit)
    code, errors, _ = Process(train(case, out), before=before).end()
    problems = untidy(code, errors)
    problems += [] if code in (0, 1) else [f"ends with {code}"]
    rest = [p.name for p in out.iterdir() if p.name[0] == "."] if out.exists() else []
    problems += [f"leaves {rest}"] if rest else []
    problems += completed(case, out, reference)
    return {
        "case": case, "kind": kind, "limit": limit, "code": code, "errors": errors[-1:],
        "problems": problems,
    }  # fmt: skip


def fill_disk(writes: int) -> None:
    """Let all writes fail after this number of them."""
    fsync, left = os.fsync, itertools.count(writes - 1, -1)

    def failing(descriptor: int) -> None:
        if next(left) < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = failing


def two(number: int, work: Path) -> Trial:
    """A second process, at a random moment, on the folder of a run."""
    rng = random.Random(number)
    case = "noisy"
    reference, seconds = whole(case, work)
    out = fresh(work, "two")
    kind = ("train", "resume", "resume, after a kill", "two resumes")[number % 4]
    first = Process(train(case, out))
    if kind == "train":
        first.wait_for(rng.uniform(0, 0.3) * seconds)
    else:
        while not (out / "checkpoint.safetensors").exists():
            time.sleep(0.01)
        first.wait_for(first.cpu() + rng.uniform(0, 0.3) * seconds)
    if kind in ("resume, after a kill", "two resumes"):
        first.send(signal.SIGKILL)
        first.end()
    if kind == "two resumes":
        first = Process(again(case, out))
    second = Process(train(case, out) if kind == "train" else again(case, out))
    both = [second] if kind == "resume, after a kill" else [first, second]
    ends = [process.end() for process in both]
    codes = sorted(code for code, _, _ in ends)
    problems = [line for code, errors, _ in ends for line in untidy(code, errors)]
    problems += [] if codes in ([0], [0, 2], [0, 0]) else [f"end with {codes}"]
    problems += completed(case, out, reference)
    return {
        "case": case, "kind": kind, "code": codes, "errors": [errors[-1:] for _, errors, _ in ends],
        "problems": problems,
    }  # fmt: skip


def warm_up() -> None:
    """Make a short run of every case in this process, which imports all that the forks need."""
    with (
        TemporaryDirectory() as folder,
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        for case in CASES:
            main([*train(case, Path(folder) / case), "--epochs", "1"])
    gc.collect()  # ends the boxes


def undrawn(figure: object, file: io.BytesIO, **settings: object) -> None:
    """Take the place of `Figure.savefig`, which costs more than all the rest of a run."""
    file.write(b"not drawn")


PARTS: dict[str, tuple[Callable[[int, Path], Trial], int]] = {
    "killed": (killed, 100),
    "full": (full, 36),
    "two": (two, 20),
}
"""What is tried, and how often."""


def trials(results: Path, parts: list[str], most: int | None) -> Iterator[Trial]:
    """Carry out the trials that are not in the results yet."""
    work = results.with_suffix(".runs").absolute()
    work.mkdir(parents=True, exist_ok=True)
    done = {(t["part"], t["number"]) for t in read(results)}
    for part in parts:
        carry_out, count = PARTS[part]
        for number in range(count if most is None else most):
            if (part, number) not in done:
                yield {"part": part, "number": number} | carry_out(number, work)


def read(results: Path) -> list[Trial]:
    lines = results.read_text().splitlines() if results.exists() else []
    return [json.loads(line) for line in lines]


def table(found: list[Trial]) -> str:
    """The results in Markdown: a row per part and kind."""
    lines = ["| what | trials | exit codes | problems |", "|---|---|---|---|"]
    rows: dict[str, list[Trial]] = {}
    for trial in found:
        kind = trial.get("signal") or trial.get("kind")
        rows.setdefault(f"{trial['part']}: {kind}", []).append(trial)
    for name, members in rows.items():
        codes = Counter(str(t["code"]) for t in members)
        text = ", ".join(f"{code} ({n})" for code, n in codes.most_common())
        bad = sum(bool(t["problems"]) for t in members)
        lines.append(f"| {name} | {len(members)} | {text} | {bad} |")
    return "\n".join(lines)


def campaign() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--trials", type=int, help="of each part; the first ones")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--table", action="store_true", help="print the results as a table")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(read(chosen.results)))
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may ignore it
    TASKS["tiny"] = TASK
    Figure.savefig = undrawn  # type: ignore[method-assign, assignment]
    torch.set_num_threads(1)  # a fork of a process with threads of OpenMP would hang
    warm_up()
    for trial in trials(chosen.results, chosen.only, chosen.trials):
        with chosen.results.open("a") as file:
            file.write(json.dumps(trial) + "\n")
        print(shlex.join(f"{k}={v}" for k, v in trial.items()), flush=True)
    sys.exit(any(trial["problems"] for trial in read(chosen.results)))


if __name__ == "__main__":
    campaign()
