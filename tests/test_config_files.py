"""Settings in TOML files: `train --save-config FILE` and `train --config FILE`."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.core.values import made
from noisynets.run.settings import Config, resolve
from noisynets.run.settings.files import read_settings, toml


def ending(*words: str) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"system": "lif", "rule": "anp", "hidden": (8, 4)},
        {"system": "mlp", "rule": "danp", "optimiser": "sgd", "sigma": 0.25},
        {"task": "noisy-cartpole", "system": "noisy-policy", "env": ("sigma=0.2",)},
        {"system": "analog-mlp", "rule": "bp", "lr": 1e-05, "test": False},
        {"system": "mlp", "sigma": "auto"},
    ],
)
def test_settings_are_read_as_they_were_written(given_settings, tmp_path: Path) -> None:
    config = replace(resolve(Config(**given_settings)), device="auto")
    path = tmp_path / "run.toml"
    path.write_text(toml(config))
    read = made(Config, read_settings(path))
    assert read == config
    assert replace(resolve(read), device="auto") == config


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_text_survives(box: str, env: list[str]) -> None:
    texts = [
        box.encode(errors="ignore").decode(),
        *(e.encode(errors="ignore").decode() for e in env),
    ]
    found = tomllib.loads(toml(Config(box=texts[0], env=tuple(texts[1:]))))
    assert found["box"] == texts[0] and found["env"] == texts[1:]


def test_save_config_trains_nothing_and_config_gives_the_same_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["yinyang", "--hidden", "8", "--epochs", "1", "--batch-size", "1000", "--device", "cpu"]
    assert ending("train", *words, "--save-config", "run.toml") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]
    assert ending("train", "--config", "run.toml", "--out", "a") == 0
    assert ending("train", *words, "--out", "b") == 0
    a, b = (json.loads((tmp_path / name / "summary.json").read_text()) for name in "ab")
    assert a["test_loss"] == b["test_loss"]
    assert (tmp_path / "a/config.json").read_text() == (tmp_path / "b/config.json").read_text()


def test_the_command_line_overrides_the_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text('task = "yinyang"\nepochs = 1\nbatch-size = 1000\nhidden = [8]\n')
    words = ["--config", "run.toml", "--batch-size", "500", "--out", "run"]
    assert ending("train", *words) == 0
    found = json.loads(Path("run/config.json").read_text())
    assert (found["task"], found["epochs"], found["batch_size"]) == ("yinyang", 1, 500)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch = 3\n", "unknown setting 'epoch': did you mean 'epochs'?"),
        ('epochs = "three"\n', "epochs = 'three' has the wrong type"),
        ("[train]\nepochs = 3\n", "unknown setting 'train'"),
        ("batch_size = 3\nbatch-size = 3\n", "batch_size is there twice"),
        ("epochs = \n", "cannot be read"),
        ("epochs = 0\n", "--epochs 0 must be at least 1"),
        ('rule = "amp"\n', "unknown rule 'amp': did you mean 'anp'?"),
        ('system = "process-box"\nbox = "rm -r x"\n', "would run the command 'rm -r x'"),
        ('task = "gym:mine:Env-v0"\n', "would import the module 'mine'"),
    ],
)
def test_files_that_cannot_be_used_are_refused_in_one_line(
    text, expected, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(text)
    assert ending("train", "--config", "run.toml") == 2
    found = capsys.readouterr().err
    assert expected in found and found.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(Path("/nowhere/run.toml"))
