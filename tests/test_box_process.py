"""Boxes in other processes: messages, crashes, time-outs and restarts."""

import io
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import box_faults
import numpy as np
import pytest
from boxes import SERVE, inputs, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny import TASK, config, final, run, same

from noisynets.core.errors import InputError
from noisynets.run.folder import create
from noisynets.run.session import build
from noisynets.run.train import train
from noisynets.systems.blackbox import (
    BoxFailed,
    ProcessBox,
    Reading,
    SpikingChip,
    frames,
)
from noisynets.tasks.data import TASKS


@pytest.fixture(autouse=True)
def tiny_task(monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", TASK)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text("abcxyz0123456789", min_size=1),
        hnp.arrays(
            st.sampled_from([np.float32, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        ),
        max_size=4,
    ),
    st.integers(0, 2000),
)
def test_messages_are_read_whole_or_not_at_all(arrays, cut) -> None:
    stream = io.BytesIO()
    frames.write(stream, arrays)
    whole = stream.getvalue()
    found = frames.read(io.BytesIO(whole))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert frames.read(io.BytesIO(whole[: min(cut, len(whole) - 1)])) is None


def test_a_process_gives_the_same_bits_as_the_chip_that_it_serves() -> None:
    box = ProcessBox([*SERVE, "5", "7", "3", "--unit", "lif"])
    w, x = weights(5, 7, 3), inputs(20, 5)
    for trial in range(2):
        theirs, ours = box.run(w, x, trial), SpikingChip((5, 7, 3)).run(w, x, trial)
        np.testing.assert_array_equal(theirs.output, ours.output)
        for a, b in zip(theirs.layers, ours.layers, strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)
            np.testing.assert_array_equal(a.activities, b.activities)
    box.close()


OWN = """
import io, os, struct, sys, time
from pathlib import Path
import numpy as np

def write(**arrays):
    body = io.BytesIO()
    np.savez(body, **arrays)
    sys.stdout.buffer.write(struct.pack("<Q", len(body.getvalue())) + body.getvalue())
    sys.stdout.buffer.flush()

Path(sys.argv[1] + ".pid").write_text(str(os.getpid()))
write(layers=np.array([[16, 8], [8, 3]]))
while head := sys.stdin.buffer.read(8):
    asked = np.load(io.BytesIO(sys.stdin.buffer.read(struct.unpack("<Q", head)[0])))
    trial, x, answer = int(asked["trial"]), asked["x"], {}
    noise, fault = np.random.default_rng(trial), Path(sys.argv[1])
    word = fault.read_text() if trial == 5 and fault.exists() else ""
    if word == "crash":
        print("the supply broke down", file=sys.stderr, flush=True)
        os._exit(7)
    if word == "sleep":
        time.sleep(60)
    if word == "say":
        write(error=np.array("too hot"))
        continue
    for i in range(2):
        a = x @ asked[f"weight{i}"].T + asked[f"bias{i}"]
        a = a + 0.1 * noise.standard_normal(a.shape, dtype=np.float32)
        answer |= {f"inputs{i}": x, f"activities{i}": a}
        x = np.maximum(a, 0)
    write(**answer)
"""
"""A box that does not import noisynets and follows the protocol of docs/how-to/blackbox.md."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[dict[str, object], Path]:
    """Settings of a run on that box, and the file that makes it fail in trial 5."""
    script, fault = tmp_path / "own.py", tmp_path / "fault"
    script.write_text(OWN)
    command = shlex.join([sys.executable, str(script), str(fault)])
    return {"system": "process-box", "epochs": 2, "box": command}, fault


def test_killing_the_process_ten_times_changes_no_result(own, tmp_path, monkeypatch) -> None:
    settings, _ = own
    whole = final(run(tmp_path / "whole", **settings))
    kills, ask = [], ProcessBox.run

    def killing(self: ProcessBox, weights, x, trial: int) -> Reading:
        if trial % 3 == 1 and len(kills) < 10:
            os.kill(self.pid, signal.SIGKILL)
            kills.append(trial)
        return ask(self, weights, x, trial)

    monkeypatch.setattr(ProcessBox, "run", killing)
    assert same(final(run(tmp_path / "killed", **settings)), whole)
    assert len(kills) == 10


@pytest.mark.parametrize(
    ("fault", "words", "more"),
    [
        ("crash", r"ended with status 7 \(2 times\); stderr: the supply broke down", {}),
        ("sleep", r"no answer in 2 s .*\(2 times\)", {}),
        ("say", "trial 5 .*: too hot", {"augment": "flip"}),
        ("say", "trial 5 .*: too hot", {"rule": "spsa"}),  # in the second pass of a step
    ],
)
def test_a_run_resumes_after_its_box_failed(fault, words, more, own, tmp_path, monkeypatch) -> None:
    settings, file = own
    settings |= more
    start = ProcessBox.__init__

    def short_timeout(self, command, **settings) -> None:
        start(self, command, timeout=60.0, retries=1)  # a busy machine may start it slowly
        self.timeout = 2.0 if fault == "sleep" else 60.0

    monkeypatch.setattr(ProcessBox, "__init__", short_timeout)
    whole = final(run(tmp_path / "whole", **settings))
    file.write_text(fault)
    folder = create(tmp_path / "stopped", config(**settings))
    with pytest.raises(BoxFailed, match=f"{words}.*; then: noisynets resume"):
        train(folder, progress_bar=False)
    file.unlink()
    train(folder, progress_bar=False)
    assert same(final(folder), whole)


def test_output_printed_by_a_box_is_kept_out_of_the_messages() -> None:
    code = (
        "from noisynets.systems.blackbox import NumpyChip, serve\n"
        "class Prints(NumpyChip):\n"
        "    def run(self, *arguments):\n"
        "        print('a hundred words' * 10)\n"
        "        return super().run(*arguments)\n"
        "serve(Prints((5, 3)))"
    )
    box = ProcessBox([sys.executable, "-c", code])
    assert box.run(weights(5, 3), inputs(4, 5), 0).layers[0].activities.shape == (4, 3)
    box.close()


@pytest.mark.parametrize(
    ("command", "timeout", "words"),
    [
        (["no-such-program"], 60, "cannot be started"),
        ([sys.executable, "-c", "raise SystemExit('no chip')"], 60, "status 1 .*stderr: no chip"),
        ([sys.executable, "-c", "print('hello there, who are you')"], 60, "cannot be read"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 1, "no answer in 1 s"),
    ],
)
def test_a_command_that_is_no_box_is_refused(command, timeout, words) -> None:
    with pytest.raises(BoxFailed, match=words):
        ProcessBox(command, timeout=timeout, retries=1)


def test_the_widths_of_a_box_must_fit() -> None:
    box = " ".join([*SERVE, "16", "5", "3"])
    with pytest.raises(InputError, match="16-5-3 where .* make 16-8-3: give --hidden 5"):
        build(config(system="process-box", box=box))


HELD = """
import os, sys, time
import numpy as np
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import faulty_box
e = faulty_box.Exchange(Path(sys.argv[2]))
faulty_box.note(e.folder, os.getpid())
e.frame(faulty_box.npz({"layers": np.array([[5, 3]])}))
exec(sys.argv[3])
"""
"""A box of three rows that greets, and then does something else."""


def held(folder: Path, then: str, **settings) -> ProcessBox:
    return ProcessBox(
        [sys.executable, "-c", HELD, str(Path(__file__).parent), str(folder), then], **settings
    )


def gone(folder: Path) -> bool:
    """True if every process of a box ends within seconds."""
    pids = [int(line.split()[0]) for line in (folder / "pids").read_text().splitlines()]
    end = time.monotonic() + 10
    while any(map(box_faults.alive, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(box_faults.alive, pids))


def test_a_time_out_holds_and_kills_the_child_of_a_wrapper(tmp_path) -> None:
    box = held(tmp_path, "e.child(); time.sleep(99)", retries=0)
    box.timeout, start = 0.3, time.monotonic()
    with pytest.raises(BoxFailed, match="trial 4 of box .*: no answer in 0.3 s"):
        box.run(weights(5, 3), inputs(3, 5), 4)
    assert time.monotonic() - start < 5 and gone(tmp_path)


def test_a_slow_box_is_given_more_time(own, tmp_path) -> None:
    settings, _ = own
    folder = create(tmp_path / "run", config(**settings, box_timeout=1e9))
    assert folder.config().box_timeout == 1e9
    box = build(replace(folder, box_timeout=50.0).config()).system.box
    assert box.timeout == 50
    box.close()
    box.timeout = 1e300
    assert len(box.run(weights(16, 8, 3), inputs(4, 16), 0).layers) == 2
    box.close()


def test_a_box_has_time_to_end_when_its_input_is_closed(tmp_path) -> None:
    box = held(tmp_path, "faulty_box.os.read(0, 1); (e.folder / 'parked').touch()")
    box.close()
    assert (tmp_path / "parked").exists() and box.pid is None


@pytest.mark.parametrize("end", ["raise KeyboardInterrupt", "os.kill(os.getpid(), 9)"])
def test_no_process_is_left_when_the_trainer_ends(end, tmp_path) -> None:
    code = (
        f"import os, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from pathlib import Path\nfrom test_box_process import held\n"
        f"box = held(Path({str(tmp_path)!r}), 'e.child(); time.sleep(99)')\n{end}"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert gone(tmp_path)


def test_an_interrupted_trial_leaves_no_answer_for_the_next(tmp_path, monkeypatch) -> None:
    box = ProcessBox([*SERVE, "5", "3"])
    expected = box.run(weights(5, 3), inputs(3, 5), 1).layers[0].activities

    def interrupted(*arguments) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "readv", interrupted)
        box.run(weights(5, 3), inputs(3, 5), 0)
    assert box.pid is None
    np.testing.assert_array_equal(
        box.run(weights(5, 3), inputs(3, 5), 1).layers[0].activities, expected
    )
    box.close()


def test_an_answer_that_names_no_trial_may_have_been_taken_for_another(tmp_path) -> None:
    answers = (
        "faulty_box.LAYERS = [[5, 3]]; send = faulty_box.Exchange.send;"
        "faulty_box.Exchange.send = lambda e: [send(e, trial=None) for _ in range(2)];"
        "faulty_box.answer(e)"
    )
    box = held(tmp_path, answers)
    box.run(weights(5, 3), inputs(3, 5), 0)
    time.sleep(0.1)
    with pytest.warns(UserWarning, match="let every answer name its trial"):
        box.run(weights(5, 3), inputs(3, 5), 1)
    box.close()


def test_the_standard_error_is_read_as_it_comes_and_its_end_is_kept(tmp_path) -> None:
    code = "[os.write(2, b'x' * 9999) for _ in range(5000)]; os.write(2, b'\\nlast'); os._exit(9)"
    with pytest.raises(BoxFailed, match=r"ended with status 9; stderr: last \(see docs/[^)]*\)$"):
        held(tmp_path, code, retries=0).run(weights(5, 3), inputs(3, 5), 0)
