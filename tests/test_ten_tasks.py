"""Ten tasks of a new user: the script, what it printed, and what its author stumbled over."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import run

from noisynets.bench import read_suite
from noisynets.cli import benchmarks, main

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "ten_tasks.sh"
PRINTED = (ROOT / "examples" / "ten_tasks.txt").read_text()
QUICK = ("2", "7")
"""Tasks that the test does: own data, and weights in plain PyTorch; .ci/run does all."""


def parts(text: str) -> dict[str, list[str]]:
    """Lines that were printed by task, without numbers, spaces and rulers of tables."""
    pieces = re.split(r"^== task (\d+) ==\n", text.replace("\nall done\n", ""), flags=re.M)[1:]
    plain = [re.sub(r"[\d.]+|\bN\b|[ -]+", " ", piece).split() for piece in pieces[1::2]]
    return dict(zip(pieces[::2], plain, strict=True))


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which `noisynets` and `python` are those of this test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, words in (("python", ""), ("noisynets", "-m noisynets ")):
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        file.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}


def ten_tasks(folder: Path, environment: dict[str, str], *tasks: str) -> tuple[int, str]:
    """Run the script; return its status, and what it printed in the form of the stored text."""
    words = ["bash", str(SCRIPT), str(folder), *tasks]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    clean = ["sed", "-E", "-f", str(SCRIPT.with_suffix(".sed"))]
    shown = subprocess.run(clean, input=done.stdout, capture_output=True, text=True, check=True)
    return done.returncode, shown.stdout


def test_the_script_makes_its_files_and_prints_what_is_stored(tmp_path, commands) -> None:
    status, text = ten_tasks(tmp_path / "work", commands, *QUICK)
    assert status == 0 and text.endswith("all done\n"), text
    stored = parts(PRINTED)
    assert parts(text) == {task: stored[task] for task in QUICK}
    made = ("predictions.csv", "metals.pt", "metals.scaling.npz", "runs/metals/curves.png")
    assert [name for name in made if not (tmp_path / "work" / name).exists()] == []
    status, text = ten_tasks(tmp_path / "work", commands, "2")  # runs/metals is there already
    assert status == 1 and "failed with status 2" in text and "all done" not in text


def test_what_is_stored_is_of_all_tasks_and_of_no_machine() -> None:
    assert list(parts(PRINTED)) == [str(n) for n in range(1, 11)]
    assert PRINTED.endswith("\nall done\n")
    assert not re.search(r"/(?:root|home|tmp|work|Users)\b|failed|missing:", PRINTED)
    done = set(re.findall(r"\$ noisynets ([a-z-]+)", PRINTED))
    assert done == {
        "train",
        "predict",
        "check-box",
        "resume",
        "compare",
        "export",
        "report",
        "bench",
    }


def test_every_task_names_the_pages_that_told_it() -> None:
    heads = re.findall(r"^task_\d+\(\) \{ # (.+)\n    # (.+)\n", SCRIPT.read_text(), re.M)
    assert len(heads) == 10
    for _, pages in heads:
        named = re.findall(r"[\w/-]+\.(?:md|ipynb)", pages)
        assert named and all((ROOT / name).exists() for name in named), pages
        for page, section in re.findall(r'([\w/-]+\.md), "([^"]+)"', pages):
            assert section in (ROOT / page).read_text(), (page, section)


def test_a_run_that_has_ended_says_how_to_go_on(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "run", epochs=2)
    capsys.readouterr()
    main(["resume", str(folder.path)])
    found = capsys.readouterr()
    assert found.err == f"{folder.path}: has ended after epoch 2: a higher --epochs continues it\n"
    assert "test accuracy" in found.out


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["train", "--config", "nowhere.toml"], "name a TOML file, as --save-config writes it"),
        (["bench", "nowhere.toml"], "name a suite, or a TOML file of yours"),
        (["bench", "empty.toml"], "there is no [[case]]: add one, with a name"),
    ],
)
def test_files_that_are_not_there_are_not_to_be_corrected(
    words, advice, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.toml").write_text('rules = ["bp"]\n')
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and advice in capsys.readouterr().err


def test_results_with_other_settings_say_so(monkeypatch, tmp_path) -> None:
    seen = []
    monkeypatch.setattr(benchmarks, "compare", lambda suite, path, **rest: seen.append(suite))
    (tmp_path / "results.md").touch()
    main(["bench", "smoke", "--out", str(tmp_path)])
    main(["bench", "smoke", "--out", str(tmp_path), "--epochs", "1", "--set", "lr=0.01"])
    plain = read_suite("smoke").summary
    assert seen[0].summary == plain
    assert seen[1].summary.startswith(
        f"{plain} With other settings than the suite: epochs=1 lr=0.01;"
    )


def test_the_noise_of_a_box_is_not_given_a_sigma(tmp_path: Path, capsys) -> None:
    box = f"{sys.executable} {ROOT / 'examples' / 'own_box.py'} --serve"
    x = "".join(f"{i % 7},{i % 5},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "a.csv").write_text(f"u,v,target\n{x}")
    words = ["train", f"arrays:{tmp_path / 'a.csv'}", "--system", "process-box", "--box", box]
    main([*words, "--hidden", "32", "32", "--epochs", "1", "--out", str(tmp_path / "run")])
    found = capsys.readouterr().out
    assert "in its own noise (that of its box)" in found and "sigma" not in found
