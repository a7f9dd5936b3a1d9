"""Boxes in other processes: messages, crashes, time-outs and restarts."""

import io
import os
import shlex
import signal
import sys
from pathlib import Path

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
    ("fault", "words"),
    [
        ("crash", r"ended with status 7 \(2 times\); stderr: the supply broke down"),
        ("sleep", r"no answer in 1 s \(2 times\)"),
        ("say", "trial 5 .*: too hot"),
    ],
)
def test_a_run_resumes_after_its_box_failed(fault, words, own, tmp_path, monkeypatch) -> None:
    settings, file = own
    start = ProcessBox.__init__

    def short_timeout(self, command, **settings) -> None:
        start(self, command, timeout=1.0, retries=1)

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
    ("command", "words"),
    [
        (["no-such-program"], "cannot be started"),
        ([sys.executable, "-c", "raise SystemExit('no chip')"], "status 1 .*stderr: no chip"),
        ([sys.executable, "-c", "print('hello there, who are you')"], "cannot be read"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "no answer in 1 s"),
    ],
)
def test_a_command_that_is_no_box_is_refused(command, words) -> None:
    with pytest.raises(BoxFailed, match=words):
        ProcessBox(command, timeout=1.0, retries=1)


def test_the_widths_of_a_box_must_fit() -> None:
    box = " ".join([*SERVE, "16", "5", "3"])
    with pytest.raises(InputError, match="16-5-3 where .* make 16-8-3: give --hidden 5"):
        build(config(system="process-box", box=box))
