"""The command line: what it prints, and that bad input gives one line and exit code 2."""

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import config

from noisynets import cli
from noisynets.cli.parser import parsed
from noisynets.cli.runs import TrainArguments
from noisynets.core.values import declared, options
from noisynets.run.folder import RunFolder, create
from noisynets.run.settings import Config
from noisynets.run.train import train
from noisynets.systems.catalogue import ARCHITECTURES, FAMILIES, SYSTEMS
from noisynets.systems.devices import PRESETS
from noisynets.tasks.data.mnist import FILES

TINY = ["mnist", "--hidden", "8", "--epochs", "1", "--batch-size", "1000"]


def call(*args: str) -> int:
    try:
        cli.main(args)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train", "mnst"], "unknown task 'mnst': did you mean 'mnist'?"),
        (["train", "--rule", "amp"], "unknown rule 'amp': did you mean 'anp'?"),
        (["train", "--system", "nosy-mlp"], "unknown system 'nosy-mlp': did you mean 'noisy-mlp'?"),
        (["train", "--noise", "gausian"], "did you mean 'gaussian'?"),
        (["train", "--decor-variant", "kapa"], "did you mean 'kappa'?"),
        (["train", "--sigma", "-0.1"], "--sigma -0.1 must be positive"),
        (["train", "--sigma", "0"], "--sigma 0 must be positive"),
        (["train", "--sigma", "nan"], "--sigma nan must be positive"),
        (["train", "--system", "mlp", "--sigma", "1e-9"], "below the precision of float32"),
        (["train", "--sigma", "0.01", "--dtype", "bfloat16"], "below the precision of bfloat16"),
        (["train", "--rule", "np"], "NP needs injected noise"),
        (["train", "--rule", "dinp"], "INP needs injected noise"),
        (["train", "--rule", "bp", "--sigma", "0.1"], "--sigma 0.1: 'bp' injects nothing"),
        (["train", "--rule", "bp", "--noise", "uniform"], "--noise uniform: 'bp' injects nothing"),
        (["train", "--rule", "bp", "--resamples", "3"], "--resamples 3: 'bp' injects nothing"),
        (["train", "--rule", "anp", "--decor-lr", "0.1"], "--decor-lr 0.1: 'anp' does not decorr"),
        (["train", "--demean"], "--demean: 'mirrored' does not decorrelate"),
        (["train", "--rule", "danp", "--decor-lr", "0"], "'danp' is 'anp'"),
        (["train", "--noise", "uniform"], "--noise: nothing is injected"),
        (["train", "--rule", "spsa", "--scaling", "root"], "--scaling root: 'spsa' has none"),
        (["train", "--intrinsic-noise", "1e-30"], "--intrinsic-noise: sigma 1e-30 is below"),
        (["train", "--intrinsic-noise", "0"], "noisy-mlp without noise is 'mlp'"),
        (["train", "--intrinsic-noise", "-1"], "--intrinsic-noise -1 must be finite"),
        (["train", "--hidden", "64", "0"], "every value must be at least 1"),
        (
            ["train", "--epochs", "0", "--batch-size", "-3"],
            "--epochs 0 must be at least 1; --batch",
        ),
        (["train", "--device-preset", "rram"], "did you mean 'reram'?"),
        (["train", "--system", "analog-mlp", "--device-seed", "-1"], "--device-seed -1 must be"),
        (["train", "--device-seed", "3"], "--device-seed 3: device 'none' is the same on every"),
        (["train", "--system", "quantised-mlp", "--bits", "0"], "--bits 0 must be within 1..24"),
        (["train", "--bits", "3"], "--bits 3: noisy-mlp has no such part"),
        (["train", "--system", "sign-mlp", "--slope", "0.1"], "sign-mlp has no such part"),
        (["train", "--system", "bernoulli-mlp", "--temperature", "0"], "--temperature 0 must be"),
        (["train", "--noise-during", "evalation"], "did you mean 'evaluation'?"),
        (
            ["train", "--system", "mlp", "--noise-during", "training"],
            "has no noise of its own at its",
        ),
        (["show", "mlp", "--out", "nowhere/a.png"], "there is no folder nowhere"),
        (["show", "sing-mlp"], "unknown run folder or system 'sing-mlp': did you mean 'sign-mlp'?"),
        (["show", "analog-mlp", "--device-preset", "pcn"], "did you mean 'pcm'?"),
        (["show", "reram-sc"], "unknown run folder or system 'reram-sc': did you mean 'reram-sb'"),
        (["show", "quantised-mlp", "--bits", "0"], "--bits 0 must be within 1..24"),
        (["train", "--augment", "crop-flp"], "did you mean 'crop-flip'?"),
        (["train", "yinyang", "--augment", "crop"], "the inputs of yinyang are no pictures"),
        (["train", "randman", "--standardise"], "the inputs of randman are events"),
        (["train", "--system", "lif", "--encoder", "rate", "--standardise"], "has inputs down"),
        (["train", "--system", "lif", "--steps", "0"], "--steps 0 must be within 1..1"),
        (["train", "--steps", "5"], "--steps 5: noisy-mlp has no time steps"),
        (["train", "--beta", "0.5"], "--beta 0.5: noisy-mlp has no such part"),
        (["train", "--system", "lif", "--beta", "1.5"], "--beta 1.5 must be within 0..1"),
        (["train", "--system", "lif", "--neuron", "lapique"], "did you mean 'lapicque'?"),
        (["train", "--system", "lif", "--readout", "cout"], "did you mean 'count'?"),
        (["train", "--system", "lif", "--encoder", "latencey"], "did you mean 'latency'?"),
        (["train", "--system", "lif", "--encoder", "frames"], "--encoder frames: mnist takes"),
        (["train", "--system", "lif", "--firing-noise", "0.2"], "a hard threshold has none"),
        (["train", "--system", "lif", "--firing", "noise"], "did you mean 'noisy'?"),
        (["train", "--system", "lif-conv", "yinyang"], "needs pictures"),
        (["train", "mackey-glass", "--system", "lif", "--encoder", "rate"], "has inputs down to"),
        (["train", "randman", "--system", "lif", "--encoder", "rate"], "randman takes frames"),
        (["train", "randman", "--system", "lif", "--steps", "101"], "do not make so many bins"),
        (["train", "--system", "lif", "--rule", "bp", "--credit-over", "steps"], "gives no credit"),
        (
            ["train", "--system", "lif", "--rule", "wp", "--noise-over", "trial"],
            "there is no noise",
        ),
        (
            ["train", "--system", "noisy-lif", "--firing", "escape", "--noise-during", "training"],
            "neurons have their noise in both",
        ),
        (["neurobench", "/nowhere", "--examples", "0"], "--examples 0 must be at least 1"),
        (
            ["train", "randman", "--system", "lif", "--rule", "anp", "--noise-over", "trial"],
            "gives no credit to single steps",
        ),
        (["train", "events", "--system", "lif"], "task 'events' reads a file"),
        (["train", "events", "--system", "lif", "--data-dir", "/nowhere.npz"], "cannot be read"),
        (["neurobench", "/nowhere"], "/nowhere: no run folder"),
        (["train", "--lr", "inf"], "--lr inf must be positive"),
        (["train", "--data-dir", "/nowhere"], "/nowhere: no train-images"),
        (["resume", "/nowhere"], "/nowhere: no run folder"),
        (["eval", "/nowhere"], "/nowhere: no run folder"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_bad_input_gives_one_line_exit_2_and_writes_nothing(
    args, words, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("noisynets: ") and words in lines[0], lines
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["trian"], "unknown command 'trian': did you mean 'train'?"),
        (["train", "--sgima", "1"], "unknown option --sgima: did you mean --sigma?"),
        (["train", "--no-tset"], "unknown option --no-tset: did you mean --no-test?"),
        (["train", "--epochs", "many"], "--epochs: 'many' is not a whole number"),
        (["train", "--lr", "high"], "--lr: 'high' is not a number"),
        (["train", "--lr", "-1e-3"], "--lr -0.001 must be positive"),
        (["train", "--epochs"], "--epochs: expected one argument"),
        (["train", "mnist", "yinyang"], "'yinyang' is one argument too many"),
        (["resume"], "required: RUN"),
        (["eval", "run", "--splt", "test"], "did you mean --split?"),
        (["eval", "run", "--split", "tset"], "unknown split 'tset': did you mean 'test'?"),
        (["data", "fecth"], "unknown action 'fecth': did you mean 'fetch'?"),
    ],
    ids=" ".join,
)
def test_what_the_parser_refuses_is_one_line_and_ends_with_2(args, words, capsys) -> None:
    assert call(*args) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("noisynets: ") and words in lines[0], lines


def test_options_are_spelled_with_dashes_or_underscores() -> None:
    found = options(Config)
    for words in (["--batch-size", "7", "yinyang"], ["yinyang", "--batch_size=7"]):
        assert parsed(found, words) == {"task": "yinyang", "batch_size": 7}
    words = ["--hidden", "8", "4", "--no-test", "--env", "a=1", "b=2", "--sigma", "auto"]
    assert parsed(found, words) == {
        "hidden": (8, 4), "test": False, "env": ("a=1", "b=2"), "sigma": "auto",
    }  # fmt: skip
    assert parsed(found, ["--hidden", "--sigma", "None"]) == {"hidden": (), "sigma": None}


def test_an_interruption_is_one_line_even_while_modules_are_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "noisynets.cli", "list"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "noisynets: interrupted\n")


def test_train_resume_eval_and_list(tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "run")
    assert call("train", *TINY, "--out", out) == 0
    printed = capsys.readouterr()
    summary = RunFolder(Path(out)).summary()
    assert f"test accuracy {summary['test_accuracy']:.4f} in its own noise" in printed.out
    assert "loss" in printed.err  # the progress bar
    assert call("resume", out) == 0
    assert f"{summary['test_accuracy']:.4f}" in capsys.readouterr().out
    assert call("eval", out) == 0
    assert f"test accuracy {summary['test_accuracy']:.4f}" in capsys.readouterr().out
    assert call("eval", out, "--split", "validation") == 0
    assert "validation accuracy" in capsys.readouterr().out
    assert call("train", *TINY, "--out", out) == 2
    assert "not empty" in capsys.readouterr().err
    assert call("list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("mnist", "noisy-mlp", "conv", "danp", "spsa", "dbp"))


CHAINS = [name for name in SYSTEMS if name.endswith("mlp") or SYSTEMS[name].spiking]
CHAINS = [name for name in (*CHAINS, "conv", "sign-lenet", "vgg") if "resnet" not in name]


def test_only_chains_are_shown(capsys) -> None:
    assert call("show", "resnet") == 2
    assert "only a chain" in capsys.readouterr().err


@pytest.mark.parametrize("system", CHAINS)
def test_show_draws_every_chain(system: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("show", system) == 0
    (picture,) = tmp_path.iterdir()
    assert capsys.readouterr().out.strip() == picture.name and picture.name.startswith(system)
    assert call("show", system, "--device-preset", "mtj", "--out", "mtj.png") == 0
    assert (tmp_path / "mtj.png").is_file()


@pytest.mark.pictures
def test_a_picture_of_a_system_is_rendered(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("show", "noisy-mlp", "--device-preset", "mtj", "--out", "mtj.png") == 0
    assert (tmp_path / "mtj.png").stat().st_size > 10_000


def test_list_explains_every_system_and_device_in_a_line(capsys) -> None:
    assert call("list") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in [*ARCHITECTURES, *filter(None, FAMILIES), *PRESETS]:
        explained = [
            len(line) > 1 for line in lines if line[0] == name
        ]  # a suite may be of its name
        assert explained and all(explained), name


def test_time_passes_on_the_device_before_it_is_read(tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "run")
    assert call("train", *TINY, "--system", "analog-mlp", "--out", out) == 0
    assert "in its own noise (device pcm)" in capsys.readouterr().out
    losses = []
    for seconds in ("0", "1e8"):
        assert call("eval", out, "--split", "validation", "--after", seconds) == 0
        losses.append(float(re.findall(r"loss ([\d.]+)", capsys.readouterr().out)[0]))
    assert losses[0] != losses[1]
    assert call("eval", out, "--after", "-1") == 2
    assert "seconds -1 must be" in capsys.readouterr().err
    dry = str(tmp_path / "dry")
    assert call("train", *TINY, "--out", dry) == 0
    capsys.readouterr()
    assert call("eval", dry, "--after", "60") == 2
    assert "has no drifting device" in capsys.readouterr().err


def shown(capsys, *args: str) -> set[str]:
    assert call(*args) == 0
    return set(re.findall(r"^  (--[a-z0-9-]+)", capsys.readouterr().out, re.MULTILINE))


def test_help_states_units_and_defaults(capsys) -> None:
    assert call("train", "--help-all") == 0
    out = capsys.readouterr().out
    text = " ".join(out.split())
    for words in ("units of the activities", "(default: noisy-mlp)", "--decor-lr", "--resamples"):
        assert words in text
    titles = ["what is trained", "how", "noise and devices", "spiking", "environments", "run"]
    assert re.findall(r"^(\w[\w ]*):$", out, re.MULTILINE) == ["arguments", *titles]


def test_help_shows_a_dozen_settings_and_those_of_what_is_chosen(capsys) -> None:
    usual = shown(capsys, "train", "--help")
    assert 9 <= len(usual) <= 15 and "--sigma" in usual
    assert {"--steps", "--neuron"} <= shown(capsys, "train", "--system", "lif", "--help")
    assert {"--spread", "--box"} <= shown(capsys, "train", "--help", "--system=process-box")
    assert {"--env", "--discount"} <= shown(capsys, "train", "cartpole", "--help")
    assert "--bits" in shown(capsys, "diagnose", "quantised-mlp", "--help")
    assert "--decor-lr" in shown(capsys, "train", "--rule", "danp", "--help")
    assert "--sigma" not in shown(capsys, "train", "--rule", "bp", "--help")
    assert not {"--steps", "--spread", "--env", "--bits", "--decor-lr"} & usual
    every = shown(capsys, "train", "--help-all")
    assert len(every) == len(declared(Config)) - 1 + len(
        declared(TrainArguments)
    )  # TASK: no dashes


def test_the_program_alone_names_its_commands(capsys) -> None:
    assert call() == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("train", "check-box", "--help"))


def test_divergence_ends_with_3(tmp_path: Path, capsys) -> None:
    out = str(tmp_path / "run")
    args = ["--system", "mlp", "--optimiser", "sgd", "--lr", "1e6", "--out", out]
    assert call("train", *TINY, *args) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("noisynets: diverged") and "lower --lr" in error
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["diverged"] is True


def test_damaged_checkpoints_end_with_2(tmp_path: Path, capsys) -> None:
    folder = create(tmp_path / "run", config(epochs=1))
    train(folder, progress_bar=False)
    (folder.path / "summary.json").unlink()
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:200])
    for command in ("resume", "eval"):
        assert call(command, str(folder.path)) == 2
        assert "damaged" in capsys.readouterr().err


def test_data_with_a_wrong_checksum_end_with_2(tmp_path: Path, capsys) -> None:
    for file in FILES.glob("*.xz"):
        shutil.copy(file, tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte.xz"
    data = bytearray(lzma.decompress(labels.read_bytes()))
    data[1000] = (data[1000] + 1) % 10
    labels.write_bytes(lzma.compress(data, preset=0))
    out = tmp_path / "run"
    assert call("train", "--data-dir", str(tmp_path), "--out", str(out)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "train-labels" in lines[0] and "md5" in lines[0]
    assert not out.exists()
    gzip = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.unlink()
    gzip.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03garbage that is no deflate stream")
    assert call("train", "--data-dir", str(tmp_path), "--out", str(out)) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_full_disk_ends_in_one_line_and_leaves_no_rest(tmp_path, monkeypatch, capsys) -> None:
    def full(descriptor):
        raise OSError(28, "No space left on device")

    folder = create(tmp_path / "run", config(epochs=1))
    monkeypatch.setattr(os, "fsync", full)
    assert call("resume", str(folder.path)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left" in error and "noisynets resume" in error
    assert [p.name for p in folder.path.iterdir()] == ["config.json"]


def test_a_run_that_was_not_tested_is_reported_as_such(tmp_path: Path, capsys) -> None:
    folder = create(tmp_path / "run", config(epochs=1, test=False))
    train(folder, progress_bar=False)
    assert call("resume", str(folder.path)) == 0
    assert "not tested" in capsys.readouterr().out
    assert call("eval", str(folder.path), "--split", "train", "--device", "cpu") == 0
    assert "train accuracy" in capsys.readouterr().out


def test_validation_is_not_the_training_set(tmp_path: Path, capsys) -> None:
    folder = create(tmp_path / "run", config(epochs=1))
    train(folder, progress_bar=False)
    call("eval", str(folder.path), "--split", "validation")
    assert "(50 examples)" in capsys.readouterr().out
    last = f"{folder.summary()['val_accuracy']:.4f}"
    call("eval", str(folder.path), "--split", "validation")
    assert last in capsys.readouterr().out


def test_the_command_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "noisynets.cli", "list"], capture_output=True, text=True, check=True
    )
    assert "noisy-mlp" in done.stdout


@pytest.mark.filterwarnings("default::UserWarning")
def test_notes_stand_in_one_line_in_the_summary_and_in_a_diagnosis(tmp_path, capsys) -> None:
    """Neurons that never fire: the output is the same in every row and pass."""
    out = tmp_path / "run"
    silent = [
        "tiny",
        "--system",
        "lif",
        "--rule",
        "anp",
        "--threshold",
        "1e6",
        "--readout",
        "count",
    ]
    assert call("train", *silent, "--epochs", "1", "--final-fit", "--out", str(out)) == 0
    said = "the output is the same in every row and pass"
    lines = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert len(lines) == 1 and "noisynets: warning: " in lines[0]
    (note,) = RunFolder(out).summary()["notes"]
    assert note.startswith(said)
    assert call("diagnose", str(out), "--trial-steps", "0") == 0
    assert f"warning: {note}" in capsys.readouterr().out
    assert json.loads((out / "diagnose.json").read_text())["notes"] == [note]


def test_a_file_of_events_is_described_as_it_was_understood(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (24, 3, 2, 6)), np.arange(24) % 4
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:8], y_test=y[:8])
    given = ["events", "--data-dir", str(tmp_path / "a.npz"), "--system", "lif", "--rule", "frozen"]
    assert call("train", *given, "--epochs", "1", "--out", str(tmp_path / "run")) == 0
    assert (
        "events: events of a sensor, from a.npz: 24 training and 8 test examples, sensor (3, 2), "
        "6 time steps, 4 classes" in capsys.readouterr().out
    )
