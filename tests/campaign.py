"""What becomes of runs that are killed, of full disks, and of two processes on one folder.

    python tests/campaign.py RESULTS.jsonl [--trials N] [--only killed full two]
    python tests/campaign.py RESULTS.jsonl --table

Every trial is a line of the results, and is not repeated when the script is started again. The
exit code is 1 if a trial has found a problem. The last results are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tiny import final, same

from noisynets.run.folder import RunFolder

NOISYNETS = [sys.executable, "-m", "noisynets.cli"]
CASES = {
    "mlp": "yinyang --system mlp --rule anp --epochs 4",
    "conv": "mnist --system conv --hidden 4 --epochs 2 --batch-size 1000",
    "lif": "yinyang --system lif --steps 4 --hidden 32 --epochs 3",
    "noisy": "yinyang --system noisy-mlp --epochs 4",
    "device": "yinyang --system analog-mlp --hidden 32 --epochs 3",
    "numpy-box": "yinyang --system numpy-box --hidden 32 --epochs 3",
    "process-box": "yinyang --system process-box --hidden 32 --epochs 2",
    "policy": "cartpole --system policy --epochs 1 --batch-size 50",
    "decorrelated": "yinyang --system mlp --rule danp --epochs 4",
}
"""Runs of some seconds, by what is special about their systems."""
SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
CODES = {"KILL": -9, "TERM": 143, "INT": 130}
PATIENCE = 300.0
"""Seconds after which a process counts as hanging."""
LINES = 2
"""Lines on standard error, at most: that of the progress bar, and that of an error."""

Trial = dict[str, Any]


def train(case: str, out: Path) -> list[str]:
    """The command of a case."""
    return [*NOISYNETS, "train", *CASES[case].split(), "--threads", "1", "--out", str(out)]


def start(command: list[str], **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def end(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit code, and the lines on standard error, of which progress bars are one."""
    try:
        _, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return 999, ["hangs"]
    return process.returncode, [line for line in errors.strip().split("\n") if line]


def again(case: str, out: Path) -> list[str]:
    """The command with which a user continues: resume, or train if nothing was written."""
    begun = (out / "config.json").exists()
    return [*NOISYNETS, "resume", str(out)] if begun else train(case, out)


def completed(case: str, out: Path, whole: Path) -> list[str]:
    """Continue a run, and name what differs from the uninterrupted one."""
    code, errors = end(start(again(case, out)))
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


def whole(case: str, work: Path) -> tuple[Path, float]:
    """The uninterrupted run of a case, made once, and the seconds that its process took."""
    out, clock = work / f"{case}-whole", work / f"{case}-seconds"
    if not clock.exists():
        subprocess.run(["rm", "-rf", str(out)], check=True)
        began = time.monotonic()
        code, errors = end(start(train(case, out)))
        assert code == 0, errors
        clock.write_text(str(time.monotonic() - began))
    return out, float(clock.read_text())


def fresh(work: Path, name: str) -> Path:
    out = work / name
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return out


def killed(number: int, work: Path) -> Trial:
    """A signal at a random moment between the start and the end of a run."""
    rng = random.Random(number)
    case = list(CASES)[number % len(CASES)]
    name = list(SIGNALS)[number // len(CASES) % len(SIGNALS)]
    reference, seconds = whole(case, work)
    moment = rng.uniform(0, seconds)
    out = fresh(work, "killed")
    process = start(train(case, out))
    time.sleep(moment)
    files = sorted(p.name for p in out.iterdir()) if out.exists() else []
    process.send_signal(SIGNALS[name])
    code, errors = end(process)
    problems = []
    if code not in (0, CODES[name]):
        problems.append(f"ends with {code}")
    if len(errors) > LINES:
        problems.append(f"{len(errors)} lines: {errors[0]!r} ... {errors[-1]!r}")
    if code in (130, 143) and not errors[-1].startswith("noisynets: "):
        problems.append(f"says {errors[-1]!r}")
    problems += completed(case, out, reference)
    return {
        "case": case, "signal": name, "moment": round(moment, 2), "of": round(seconds, 2),
        "files": files, "code": code, "errors": errors[-1:], "problems": problems,
    }  # fmt: skip


FULL = """
import errno, os, sys
left, fsync = int(sys.argv.pop(1)), os.fsync
def full(descriptor):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, "No space left on device")
    fsync(descriptor)
os.fsync = full
from noisynets.cli import main
main()
"""


def full(number: int, work: Path) -> Trial:
    """A file that may not grow beyond a size, or a disk that is full from some write on."""
    rng = random.Random(number)
    case = list(CASES)[number % len(CASES)]
    reference, _ = whole(case, work)
    out = fresh(work, "full")
    if number % 2:
        kind, limit = "largest file", int(10 ** rng.uniform(2.5, 5.5))
        process = start(
            train(case, out),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
    else:
        kind, limit = "writes", rng.randrange(12)
        process = start([sys.executable, "-c", FULL, str(limit), *train(case, out)[3:]])
    code, errors = end(process)
    problems = [] if code in (0, 1, 2) else [f"ends with {code}"]
    if len(errors) > LINES or (code and not errors[-1].startswith("noisynets: ")):
        problems.append(f"{len(errors)} lines: {errors[:1]} ... {errors[-1:]}")
    partial = [p.name for p in out.iterdir() if p.name[0] == "."] if out.exists() else []
    problems += [f"leaves {partial}"] if partial else []
    problems += completed(case, out, reference)
    return {
        "case": case, "kind": kind, "limit": limit, "code": code, "errors": errors[-1:],
        "problems": problems,
    }  # fmt: skip


def two(number: int, work: Path) -> Trial:
    """A second process, at a random moment, on the folder of a run."""
    rng = random.Random(number)
    case = "noisy"
    reference, seconds = whole(case, work)
    out = fresh(work, "two")
    kind = ("train", "resume", "resume, after a kill", "two resumes")[number % 4]
    first = start(train(case, out))
    if kind == "train":
        time.sleep(rng.uniform(0, 0.2) * seconds)
    else:
        while not (out / "checkpoint.safetensors").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.05) * seconds)
    if kind in ("resume, after a kill", "two resumes"):
        first.kill()
        first.communicate()
    if kind == "two resumes":
        first = start(again(case, out))
    second = start(train(case, out) if kind == "train" else again(case, out))
    ends = [end(second)] if kind == "resume, after a kill" else [end(first), end(second)]
    problems = []
    if sorted(code for code, _ in ends) not in ([0], [0, 2], [0, 0]):
        problems.append(f"end with {[code for code, _ in ends]}")
    for code, errors in ends:
        if len(errors) > LINES or (code and not errors[-1].startswith("noisynets: ")):
            problems.append(f"{len(errors)} lines: {errors[:1]} ... {errors[-1:]}")
    problems += completed(case, out, reference)
    return {
        "case": case, "kind": kind, "code": [code for code, _ in ends],
        "errors": [errors[-1:] for _, errors in ends], "problems": problems,
    }  # fmt: skip


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--trials", type=int, help="of each part; the first ones")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--table", action="store_true", help="print the results as a table")
    chosen = parser.parse_args()
    if chosen.table:
        print(table(read(chosen.results)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background process may ignore it
    for trial in trials(chosen.results, chosen.only, chosen.trials):
        with chosen.results.open("a") as file:
            file.write(json.dumps(trial) + "\n")
        print(shlex.join(f"{k}={v}" for k, v in trial.items()), flush=True)
    sys.exit(any(trial["problems"] for trial in read(chosen.results)))


if __name__ == "__main__":
    main()
