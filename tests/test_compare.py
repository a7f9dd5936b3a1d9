"""`noisynets compare RUN RUN…`: a table of what differs and of the results, and a picture."""

from pathlib import Path

import pytest
from PIL import Image
from tiny import config, run

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.run.compare import differences, markdown, read_runs, results
from noisynets.run.folder import RunFolder, create


def test_what_differs_and_the_results_are_shown(tmp_path: Path) -> None:
    a = run(tmp_path / "a", lr=0.01, epochs=2)
    b = run(tmp_path / "b", lr=0.02, rule="bp", epochs=2)
    runs = read_runs([a, b])
    found = differences(runs)
    assert found["--lr"] == ["0.01", "0.02"] and found["--rule"] == ["mirrored", "bp"]
    assert not {"task", "--system", "--epochs", "--hidden"} & found.keys()
    summaries = [a.summary(), b.summary()]
    assert all(s is not None for s in summaries)
    scores = [f"{s['test_accuracy']:.5g}" for s in summaries if s is not None]
    assert results(runs)["test_accuracy"] == scores
    lines = markdown(runs).splitlines()
    assert len({len(line) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "a", "b"] and ["--lr", "0.01", "0.02"] in cells
    assert ["test_accuracy", *scores] in cells


@pytest.mark.pictures
def test_the_command_draws_all_curves(tmp_path: Path, capsys) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        run(tmp_path / name, epochs=2, seed=seed)
    picture = tmp_path / "both.png"
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(picture)])
    assert "| --seed " in capsys.readouterr().out
    with Image.open(picture) as image:
        colours = {c for _, c in image.convert("RGB").getcolors(2**24)}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # of the first two runs


def test_an_unfinished_run_is_shown_as_such(tmp_path: Path) -> None:
    done, begun = run(tmp_path / "x" / "r", epochs=1), create(tmp_path / "y" / "r", config())
    runs = read_runs([done, begun])
    assert [r.name for r in runs] == ["x/r", "y/r"]
    assert results(runs)["state"] == ["ended", "epoch 0 of 3"]
    assert results(runs)["test_accuracy"][1] == "–"


def test_runs_that_cannot_be_compared_are_refused(tmp_path: Path, capsys) -> None:
    a = create(tmp_path / "a", config())
    b = create(tmp_path / "b", config(task="mackey-glass", system="lif", hidden=(8,)))
    with pytest.raises(InputError, match="at least two different runs"):
        read_runs([a, RunFolder(tmp_path / "a")])
    with pytest.raises(InputError, match="different scores"):
        read_runs([a, b])
    c = create(tmp_path / "c", config(seed=1))
    for words, expected in (
        ([a.path], "at least two different runs"),
        ([a.path, c.path], "no run has finished an epoch"),
        ([a.path, tmp_path / "gone"], "no run folder"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["compare", *map(str, words), "--out", str(tmp_path / "p.png")])
        assert end.value.code == 2 and expected in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()
