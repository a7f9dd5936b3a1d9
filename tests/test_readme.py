"""What the README and the examples say runs."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import chip_in_the_loop
import numpy as np
import own_box
import own_effect
import own_unit
import pytest
import recurrent
import torch
from PIL import Image
from tiny import TASK

from noisynets import cli
from noisynets.run.session import build
from noisynets.systems.catalogue import SYSTEMS
from noisynets.tasks.data import TASKS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = ("README.md", "docs/getting-started.md", "docs/how-to/spiking.md")
TEXT = "\n".join((ROOT / page).read_text() for page in SHOWN)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
COMMANDS = sorted(
    {
        match
        for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
        for match in re.findall(
            r"noisynets (?:train|resume|eval|diagnose|show|neurobench|list|bench)\b[^`\n;]*",
            page.read_text().replace("\\\n", ""),
        )
    }
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_python_blocks_run_and_learn(block: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(block, "block", "exec"), {"__name__": "readme"})
    if "accuracy" not in block:
        return  # it asserts what it shows
    (accuracy,) = re.findall(r"accuracy (0\.\d+)", capsys.readouterr().out)
    assert float(accuracy) > 0.7  # one epoch; chance is 0.1


SPECIAL = {"SUITE", "mine.toml", "--data-dir", "speed", "networks"}
"""Words of the commands of `bench` that run no suite of the package."""


def files_of_users(folder: Path) -> None:
    """Write the files that commands of the docs name."""
    for label in "ab":
        (folder / "PATH" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (4, 4)).save(folder / "PATH" / label / f"{i}.png")
    np.savez(folder / "FILE.npz", x=np.ones((10, 2)), y=np.arange(10) % 2)
    (folder / "run.toml").write_text('task = "yinyang"\nsystem = "mlp"\n')


@pytest.mark.filterwarnings("ignore:product_dtype")  # slow on some processors
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str, monkeypatch, tmp_path) -> None:
    """Every command in the docs is parsed and its settings resolved; nothing is run."""
    words = shlex.split(command, comments=True)[1:]
    words = [word.replace("$s", "0") for word in words if word != "done"]
    if "--help" in words:
        return  # tests/test_cli.py reads it
    seen = []
    monkeypatch.setattr("noisynets.cli.runs.create", lambda out, config: seen.append(config))
    monkeypatch.setattr("noisynets.cli.runs.load_data", lambda config: (None, None))
    monkeypatch.setattr("noisynets.cli.runs.settled", lambda config, _: replace(config, sigma=0.1))
    monkeypatch.setattr("noisynets.cli.runs.run_folder", lambda folder, data=None: None)
    for place in ("runs", "benchmarks"):
        monkeypatch.setattr(f"noisynets.cli.{place}.fetch", lambda files, say: None)
    if words[0] == "train":
        files_of_users(tmp_path)
        monkeypatch.setattr("noisynets.cli.runs.begun", build)  # --init-from RUN: there is none
        monkeypatch.chdir(tmp_path)
        cli.main(words)
        assert len(seen) == ("--save-config" not in words)
    elif words[0] == "bench" and not SPECIAL & set(words):
        found = lambda suite, path, **settings: seen.append(suite)  # noqa: E731
        monkeypatch.setattr("noisynets.cli.benchmarks.compare", found)
        (tmp_path / "results.md").touch()
        words = words[: words.index("--out")] if "--out" in words else words
        cli.main([*words, "--out", str(tmp_path)])
        assert len(seen) == 1
    elif words[0] == "diagnose" and words[1] in SYSTEMS:
        monkeypatch.setattr("noisynets.cli.diagnosis.loaded", lambda config: (None, None))
        monkeypatch.setattr(
            "noisynets.cli.diagnosis.settled", lambda config, _: seen.append(config)
        )
        with pytest.raises(AttributeError):  # there are no settings to go on with
            cli.main([*words, "--out", str(tmp_path / "a.png")])
        assert len(seen) == 1
    else:
        assert words[0] in ("diagnose", "resume", "eval", "show", "neurobench", "list", "bench")


def test_the_promised_lines_are_there() -> None:
    prefix = "python3 -m venv .venv && . .venv/bin/activate && python -m pip install -e "
    assert f"{prefix}. && noisynets train\n" in README
    assert f'{prefix}".[test]" && python -m pytest\n' in README
    assert len(BLOCKS) == 4


@pytest.mark.parametrize(("example", "least"), [(own_effect, 0.75), (own_unit, 0.45)])
def test_the_examples_learn(example, least: float) -> None:
    assert example.main(epochs=1) > least


def test_the_recurrent_example_learns_through_time() -> None:
    assert recurrent.main(steps=80, test=500) > recurrent.main("frozen", steps=80, test=500)


def test_a_box_of_ones_own_learns_what_frozen_layers_do_not() -> None:
    assert own_box.main(steps=250) > 0.95 > own_box.main(steps=250, rule="frozen")


@pytest.mark.pictures
def test_the_chips_of_the_example_are_trained_and_drawn(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", TASK)
    example = chip_in_the_loop.Example(tmp_path, epochs=1, hidden=(8,), task="tiny")
    found = chip_in_the_loop.main(example)
    assert len(found) == 15 and (tmp_path / "chips.png").stat().st_size > 10_000


def test_an_own_effect_and_an_own_unit_take_less_than_80_lines() -> None:
    for example in (own_effect, own_unit):
        assert len(Path(example.__file__).read_text().splitlines()) < 80


def test_examples_are_short() -> None:
    for example in (ROOT / "examples").glob("*.py"):
        assert len(example.read_text().splitlines()) < 150, example.name
