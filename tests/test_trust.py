"""Files of others: nothing in them runs a command or imports a module that was not named here."""

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import config

from noisynets import cli
from noisynets.bench import read_suite
from noisynets.core.errors import InputError
from noisynets.run.folder import RunFolder, create
from noisynets.run.settings import Config
from noisynets.run.train import finished
from noisynets.run.trust import Trust, codes

FIRST = """
import sys
from pathlib import Path
Path(sys.argv[1]).touch()
sys.exit("this is no box")
"""
"""A command that leaves a mark."""


@pytest.fixture
def foreign(tmp_path: Path) -> tuple[Path, str, Path]:
    """A run folder from elsewhere, the command in it, and the mark that the command leaves."""
    script, mark = tmp_path / "first.py", tmp_path / "mark"
    script.write_text(FIRST)
    command = shlex.join([sys.executable, str(script), str(mark)])
    folder = create(tmp_path / "run", config())
    change(folder.path, system="process-box", rule="mirrored", box=command)
    folder.checkpoint.touch()
    return folder.path, command, mark


def change(folder: Path, **settings) -> None:
    file = folder / "config.json"
    given = {"hidden": None, "sigma": None, "noise": None, "lr": None, "intrinsic_noise": None}
    file.write_text(json.dumps(json.loads(file.read_text()) | given | settings))


def refused(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    line = re.sub(r"\r.*(\n|(?=\r))", "", capsys.readouterr().err)  # without a progress bar
    assert end.value.code == 2 and line.count("\n") == 1
    return line


@pytest.mark.parametrize("command", ["resume", "eval", "diagnose", "neurobench"])
def test_a_command_in_a_run_folder_is_run_only_if_it_is_named(command, foreign, capsys) -> None:
    run, box, mark = foreign
    if command == "resume":  # others need a checkpoint
        RunFolder(run).checkpoint.unlink()
    for more in ([], ["--box", "python other.py"]):
        line = refused([command, str(run), *more], capsys)
        assert "would run the command" in line and box[:40] in line and "--trust" in line
        assert not mark.exists()
    for more in (["--box", box], ["--trust"]):
        line = refused([command, str(run), *more], capsys)
        assert "this is no box" in line and mark.exists()
        mark.unlink()


def test_the_line_is_fit_to_print(foreign, capsys) -> None:
    run, _, _ = foreign
    change(run, box="sh -c '\n\x1b[2J" + "x" * 5000 + "'")
    line = refused(["resume", str(run)], capsys)
    assert line.strip().isprintable() and len(line) < 600


def test_settings_that_this_program_made_need_no_permission(foreign) -> None:
    run, box, mark = foreign
    mine = config(system="process-box", box=box)
    folder = create(run.parent / "mine", mine)
    assert folder.config().box == RunFolder(folder.path, Trust.of(mine)).config().box == box
    with pytest.raises(InputError, match="would run the command"):
        RunFolder(folder.path).config()
    with pytest.raises(InputError, match="was run with other settings"):
        finished(run, replace(mine, box=None))
    assert not mark.exists()


@pytest.fixture
def module(tmp_path: Path, monkeypatch) -> Path:
    """A module that leaves a mark when it is imported; returns the mark."""
    mark = tmp_path / "mark"
    (tmp_path / "first_mine.py").write_text(
        f"from pathlib import Path; Path({str(mark)!r}).touch()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "first_mine", raising=False)
    return mark


TASKS = ["first_mine:Env-v0", "gym:first_mine:Env-v0"]


@pytest.mark.parametrize("task", TASKS)
def test_a_module_in_a_run_folder_is_imported_only_with_trust(
    task, module, tmp_path, capsys
) -> None:
    folder = create(tmp_path / "run", config())
    change(folder.path, task=task, system="mlp-policy", rule="innovation")
    line = refused(["resume", str(folder.path)], capsys)
    assert "would import the module 'first_mine'" in line and not module.exists()
    refused(["resume", str(folder.path), "--trust"], capsys)
    assert module.exists()


@pytest.mark.parametrize(
    "setting",
    [
        'channel={"entry_point": "os:system", "command": "touch mark"}',
        'channels=[[{"entry_point": "first_mine"}]]',
        "kind=first_mine:Env",
        "xml_file=/tmp/other.xml",
    ],
)
def test_settings_of_environments_that_can_name_code_need_trust(setting, tmp_path, capsys) -> None:
    folder = create(tmp_path / "run", config())
    change(
        folder.path, task="cartpole", system="mlp-policy", rule="innovation", env=["a=1", setting]
    )
    assert "would make an environment with" in refused(["resume", str(folder.path)], capsys)


def test_harmless_settings_need_no_permission() -> None:
    settings = ("sigma=[0.1, 0.2]", "hold=true", "kind=slow-2.5", "p=null")
    tasks = ("cartpole", "noisy-cartpole", "CartPole-v1", "noisynets_envs:noisynets/Chip-v0")
    for task in tasks:
        assert not list(codes(Config(task=task, env=settings)))
    for task in ("mnist", "events", "tonic:SHD"):
        assert not list(codes(Config(task=task)))


def test_data_that_another_package_unpickles_are_named(tmp_path) -> None:
    given = Config(task="tonic:SHD", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="would unpickle .*add --data-dir .* or --trust"):
        Trust().check(given)
    Trust(frozenset([str(tmp_path)])).check(given)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ('system = "process-box"\nbox = "touch mark"', "would run the command 'touch mark'"),
        ('task = "first_mine:Env-v0"\nsystem = "mlp-policy"', "would import the module"),
    ],
)
def test_a_suite_runs_and_imports_nothing_without_trust(
    settings, words, module, tmp_path, capsys
) -> None:
    file = tmp_path / "suite.toml"
    file.write_text(f'rules = ["anp"]\n[[case]]\nname = "one"\n{settings}\n')
    line = refused(["bench", str(file), "--out", str(tmp_path / "out")], capsys)
    assert words in line and "suite.toml" in line
    assert not module.exists() and not (tmp_path / "out").exists()
    try:
        assert read_suite(str(file), trust=Trust(everything=True)).entries[0].config.box
    except InputError as error:
        assert "would" not in str(error) and module.exists()


def test_a_run_in_the_folder_of_a_suite_runs_nothing_either(module, tmp_path, capsys) -> None:
    file, out = tmp_path / "suite.toml", tmp_path / "out"
    file.write_text(
        'rules = ["bp"]\nseeds = [0]\n[settings]\ntask = "tiny"\nsystem = "mlp"\nhidden = [4]\n'
        'epochs = 1\nlr = 1e-3\n[[case]]\nname = "one"\ntuned.bp = { lr = 1e-3 }\n'
    )
    entry = read_suite(str(file)).entries[0]
    folder = out / "runs" / "one" / "bp-lr0.001-epochs1-seed0"
    create(folder, entry.config)
    change(folder, task="first_mine:Env-v0", system="mlp-policy", rule="innovation")
    line = refused(["bench", str(file), "--out", str(out), "--jobs", "1"], capsys)
    assert "was run with other settings" in line and not module.exists()
