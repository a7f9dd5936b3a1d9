"""Signals and locks: one line, a checkpoint, nothing half done, and one process per folder."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import call
from tiny import config, final, run, same

import noisynets.run.train as loop
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import load_state, save_state
from noisynets.run.folder import create
from noisynets.run.lock import LOCK, locked
from noisynets.run.session import Session
from noisynets.run.signals import Deferral, shielded
from noisynets.run.train import train

NUMBERS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: int) -> None:
    """Send signals to this process in the middle of a training step."""
    step_ = Session.step_

    def interrupted(self, *args):
        estimate = step_(self, *args)
        if self.progress.epoch == 0 and self.progress.step == step - 1:
            for number in numbers:
                signal.raise_signal(number)
        return estimate

    monkeypatch.setattr(Session, "step_", interrupted)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_in_training_is_one_line_and_a_checkpoint_of_that_step(
    number, tmp_path: Path, monkeypatch, capsys
) -> None:
    whole = run(tmp_path / "whole")
    folder = create(tmp_path / "run", config())
    with monkeypatch.context() as patch:
        at_step(patch, 4, number)
        words, code = NUMBERS[number]
        assert call("resume", str(folder.path)) == code
    errors = capsys.readouterr().err.strip().split("\n")
    hint = f"continue with: noisynets resume {folder.path}"
    assert len(errors) <= 2 and errors[-1] == f"noisynets: {words}; {hint}"
    assert load_state(folder.checkpoint)["progress"]["step"] == 4
    assert not (folder.path / LOCK).exists()
    assert call("resume", str(folder.path)) == 0
    assert same(final(folder), final(whole))
    assert folder.summary()["test_loss"] == whole.summary()["test_loss"]


def test_a_second_signal_stops_within_the_step_and_the_checkpoint_before_stays(
    tmp_path: Path, monkeypatch
) -> None:
    folder = create(tmp_path / "run", config())
    at_step(monkeypatch, 4, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(folder, progress_bar=False)
    assert load_state(folder.checkpoint)["progress"]["step"] == 0


def test_signals_while_a_checkpoint_is_written_wait_until_it_is_there(
    tmp_path: Path, monkeypatch
) -> None:
    folder = create(tmp_path / "run", config())
    at_step(monkeypatch, 4, signal.SIGINT)

    def slow(path, state):
        if state["progress"]["step"]:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        save_state(path, state)

    monkeypatch.setattr(loop, "save_state", slow)
    with pytest.raises(KeyboardInterrupt):
        train(folder, progress_bar=False)
    assert load_state(folder.checkpoint)["progress"]["step"] == 4


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Deferral() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.came == signal.SIGINT
    with pytest.raises(KeyboardInterrupt), shielded():
        signal.raise_signal(signal.SIGINT)
    assert call("list") == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_while_modules_are_imported_is_one_line(number, tmp_path: Path) -> None:
    module = f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(60)\n"
    (tmp_path / "torch.py").write_text(module)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "noisynets.cli", "list"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    words, code = NUMBERS[number]
    assert (done.returncode, done.stderr) == (code, f"noisynets: {words}\n")


def test_a_signal_while_data_are_loaded_or_pictures_drawn_is_one_line(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = create(tmp_path / "run", config(epochs=1))
    for part in ("load_data", "conclude"):
        with monkeypatch.context() as patch:
            patch.setattr(loop, part, lambda *a, **k: signal.raise_signal(signal.SIGTERM))
            assert call("resume", str(folder.path)) == 143
        errors = capsys.readouterr().err.strip().split("\n")
        assert len(errors) <= 2 and errors[-1].startswith("noisynets: terminated; continue with")
    assert call("resume", str(folder.path)) == 0 and folder.curves.exists()


def test_a_folder_is_used_by_one_process_at_a_time(tmp_path: Path, capsys) -> None:
    folder = create(tmp_path / "run", config(epochs=1))
    with locked(folder.path):
        assert call("resume", str(folder.path)) == 2
        assert call("train", "tiny", "--out", str(folder.path)) == 2
        (line, other) = capsys.readouterr().err.strip().split("\n")
        assert str(folder.path) in line and f"in use by process {os.getpid()} on " in line
        assert "not empty" in other
    assert call("resume", str(folder.path)) == 0
    assert not (folder.path / LOCK).exists()


def test_the_lock_of_a_killed_process_stops_nobody(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from noisynets.run.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"in use by process {process.pid} on "):
            with locked(tmp_path):
                pass
        process.kill()
    assert (tmp_path / LOCK).exists()
    create(tmp_path, config())  # the rest of a killed process does not fill a folder
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_pictures_that_are_missing_are_drawn_when_a_run_is_resumed(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", system="lif", steps=3, epochs=1)
    names = folder.summary()["pictures"]
    assert names == ["curves.png", "spikes.png"]
    for name in names:
        (folder.path / name).unlink()
    assert call("resume", str(folder.path)) == 0
    assert all((folder.path / name).is_file() for name in names)
    assert capsys.readouterr().err.count("drawn again") == 2


def test_a_run_that_stops_at_its_pictures_is_concluded_with_the_same_numbers(
    tmp_path: Path, monkeypatch
) -> None:
    whole = run(tmp_path / "whole", system="noisy-lif", steps=3, epochs=1)
    folder = create(tmp_path / "run", config(system="noisy-lif", steps=3, epochs=1))
    with monkeypatch.context() as patch:
        patch.setattr("noisynets.run.result.draw_spikes", lambda *a: signal.raise_signal(2))
        with pytest.raises(KeyboardInterrupt):
            train(folder, progress_bar=False)
    assert folder.summary() is None
    train(folder, progress_bar=False)
    timed = ("seconds", "peak_memory_mb")
    one, other = ({k: v for k, v in f.summary().items() if k not in timed} for f in (folder, whole))
    assert one == other


def test_more_epochs_continue_a_finished_run(tmp_path: Path, capsys) -> None:
    whole = run(tmp_path / "whole", epochs=3, schedule="constant")
    folder = run(tmp_path / "run", epochs=2, schedule="constant")
    assert call("resume", str(folder.path), "--epochs", "3") == 0
    assert same(final(folder), final(whole))
    assert call("resume", str(folder.path), "--epochs", "1") == 2
    assert "of which 3 were made" in capsys.readouterr().err


def test_settings_that_were_edited_are_not_answered_with_the_old_result(tmp_path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=1)
    file = folder.path / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(values | {"lr": 0.5}))
    for command in ("resume", "eval"):
        assert call(command, str(folder.path)) == 2
        printed = capsys.readouterr()
        assert "lr was" in printed.err and "is 0.5" in printed.err and not printed.out
    file.write_text(json.dumps(values | {"epochs": 2}))
    assert call("resume", str(folder.path)) == 0
    assert len(load_state(folder.checkpoint)["progress"]["rows"]) == 2
