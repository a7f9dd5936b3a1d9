"""Faults of boxes behind pipes, injected at random trials: nothing is lost, and one line says why.

    python tests/box_faults.py             # all faults; exit code 1 if one is not handled
    python tests/box_faults.py NAME ...    # those whose names contain one of the words
    python tests/box_faults.py --list
    SEED=1 python tests/box_faults.py      # other trials; 0 if unset

Every fault of `faulty_box.py` happens once in a short run, and then, in a second run, as often as
the box is asked. `test_box_faults.py` makes a sample of these runs.

- A fault that happens once must change no bit of the result.
- One that stays must end the run with exit code 2 and one line. The run is then resumed with a
  box that is sound, and must end with the bits of the run without the fault.
- What is unusual but allowed must change nothing.
- No process of the box may be left, and nothing that it sent may have been executed.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import faulty_box
import tiny
from faulty_box import FAULTS, REPEATS, STOPS, Fault
from matplotlib.figure import Figure

from noisynets import cli
from noisynets.run.folder import RunFolder
from noisynets.tasks.data import TASKS

TRIALS = 46
"""Of a run without faults: 25 in 13 steps, 2 of validation, 10 of the test set, 9 of training's."""
TRIED = 4
"""A trial is repeated so often, at most."""
LINE = 1500
"""Characters of an error message, at most."""
BAR = re.compile(r"\s*\d+%\||^\s*$")


def command(folder: Path) -> str:
    return shlex.join([sys.executable, faulty_box.__file__, str(folder)])


def run(words: list[str]) -> tuple[int, list[str]]:
    """Run a command line of noisynets; return its exit code and what it said on standard error."""
    said, code = io.StringIO(), 0
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            cli.main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    lines = [line for line in re.split(r"[\r\n]", said.getvalue()) if not BAR.search(line)]
    return code, lines


def train(folder: Path, out: Path, timeout: float) -> tuple[int, list[str]]:
    given = "--hidden 8 --epochs 1 --batch-size 20 --device cpu --rule mirrored".split()
    box = ["--box", command(folder), "--box-timeout", str(timeout), "--out", str(out)]
    return run(["train", "tiny", "--system", "process-box", *given, *box])


def left_over(folder: Path) -> list[int]:
    """Processes of the box that are still there after some seconds; daemons are killed here."""
    gc.collect()
    left = []
    for line in (folder / "pids").read_text().splitlines():
        pid, daemon = int(line.split()[0]), "daemon" in line
        end = time.monotonic() + 3
        while alive(pid) and not daemon and time.monotonic() < end:
            time.sleep(0.02)
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
            left += [] if daemon else [pid]
    return left


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def reference(folder: Path) -> Any:
    """The result of a run without faults."""
    folder.mkdir(parents=True)
    code, said = train(folder, folder / "run", 60.0)
    assert (code, said) == (0, []), said
    return result(folder / "run")


def result(out: Path) -> Any:
    """The final state and the metrics of a run, without the settings, which name the folder."""
    state, rows = tiny.final(RunFolder(out))
    return {name: part for name, part in state.items() if name != "settings"}, rows


def check(
    fault: Fault, folder: Path, whole: Any, trial: int, *, stays: bool, timeout: float
) -> list[str]:
    """Make a run with a fault, and resume it if it stops; return what is wrong."""
    folder.mkdir(parents=True)
    plan = {"name": fault.name, "trial": trial, "left": 10**6 if stays else 1}
    (folder / "fault.json").write_text(json.dumps(plan))
    out, wrong = folder / "run", []
    code, said = train(folder, out, timeout)
    stops = fault.outcome == STOPS or (fault.outcome == REPEATS and stays)
    if json.loads((folder / "fault.json").read_text())["left"] == plan["left"]:
        wrong.append("the fault has not happened")
    if code != (2 if stops else 0):
        wrong.append(f"exit code {code}")
    if stops:
        wrong += bad_line(fault, said, out)
        (folder / "fault.json").unlink()
        (folder / "down").unlink(missing_ok=True)
        code, said = run(["resume", str(out), "--box", command(folder)])
        if code:
            wrong.append(f"resume ended with {code}")
    if said:
        wrong.append(f"said {said}")
    if not wrong and not tiny.same(result(out), whole):
        wrong.append("other bits than without the fault")
    if (folder / "executed").exists():
        wrong.append("something that the box sent was executed")
    left = left_over(folder)
    return wrong + ([f"{len(left)} processes left"] if left else [])


def bad_line(fault: Fault, said: list[str], out: Path) -> list[str]:
    """What is wrong with the message of a run that stopped."""
    if len(said) != 1:
        return [f"{len(said)} lines: {said}"]
    (line,) = said
    said.clear()
    found = [] if line.startswith("noisynets: ") else [f"no line of noisynets: {line}"]
    found += [] if line.isprintable() and len(line) <= LINE else [f"unfit to print: {line!r}"]
    if f"noisynets resume {out} --box " not in line:
        found.append(f"does not say how to go on: {line}")
    if (f"({TRIED} times)" in line) is not (fault.outcome == REPEATS):
        found.append(f"not tried {TRIED} times: {line}")
    return found


def main(words: list[str]) -> int:
    """Make all runs, print a line for each fault, and return the number of failures."""
    chosen = [f for n, f in FAULTS.items() if not words or any(word in n for word in words)]
    if "--list" in words:
        print(*(f"{f.name}: {f.outcome}" for f in FAULTS.values()), sep="\n")
        return 0
    TASKS["tiny"] = tiny.TASK
    Figure.savefig = lambda self, file, **settings: file.write(b"not drawn")
    draw, timeout = random.Random(int(os.environ.get("SEED", "0"))), 2.0
    top, failed, start = Path(tempfile.mkdtemp()), 0, time.monotonic()
    whole = reference(top / "whole")
    for i, fault in enumerate(chosen):
        for stays in (False, True):
            trial = draw.randrange(TRIALS)
            folder = top / f"{i}-{stays}"
            wrong = check(fault, folder, whole, trial, stays=stays, timeout=timeout)
            failed += bool(wrong)
            how = "each time" if stays else "once"
            print(f"{fault.name}, {how}, trial {trial}: {'; '.join(wrong) or 'ok'}", flush=True)
            shutil.rmtree(folder)
    shutil.rmtree(top)
    seconds = time.monotonic() - start
    print(f"{len(chosen)} faults, {2 * len(chosen)} runs, {failed} failures, {seconds:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
