"""Tasks of a user's own files: pictures by class in folders, and arrays in .npz and CSV files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.run import train as loop
from noisynets.run.folder import RunFolder
from noisynets.run.settings import Config, resolve
from noisynets.tasks.data import find_task
from noisynets.tasks.data.csv_files import numbers, read_table, targets
from noisynets.tasks.data.own import ordered

FAST = ["--epochs", "2", "--batch-size", "8", "--hidden", "8", "--device", "cpu"]


def picture(path: Path, value: int = 0, size: tuple[int, int] = (6, 5), mode: str = "L") -> None:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(path)


def flat(path: Path, n: int = 10) -> Path:
    """Write a folder of two classes: dark and bright."""
    for i in range(n):
        picture(path / "dark" / f"{i}.png", i)
        picture(path / "bright" / f"{i}.png", 200 + i)
    return path


def wrong(task: str, size: int = 0) -> str:
    """The one line by which a task is refused."""
    with pytest.raises(InputError) as error:
        find_task(task, size=size)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pictures_are_read_with_the_classes_of_their_folders(tmp_path: Path) -> None:
    task = find_task(f"folder:{flat(tmp_path)}")
    assert task.own is not None and task.own.labels == ("bright", "dark")
    assert task.input_shape == (1, 5, 6) and task.classes == 2
    train, val = task.training()
    assert val is not None and (len(train), len(val), len(task.test())) == (16, 2, 2)
    every = [*train.x, *val.x, *task.test().x]
    assert sorted(int(x[0, 0, 0]) for x in every) == [*range(10), *range(200, 210)]
    for part in (train, val, task.test()):
        assert torch.equal(part.x[:, 0, 0, 0] < 100, part.y == 1)
        assert part.y.bincount().unique().numel() == 1  # the classes in proportion


def test_the_parts_of_a_folder_are_kept(tmp_path: Path) -> None:
    flat(tmp_path / "train"), flat(tmp_path / "valid", 3), flat(tmp_path / "test", 2)
    task = find_task(f"folder:{tmp_path}")
    train, val = task.training()
    assert val is not None and (len(train), len(val), len(task.test())) == (20, 6, 4)
    assert sorted(val.x[:, 0, 0, 0].tolist()) == [0, 1, 2, 200, 201, 202]


def test_one_colour_picture_makes_all_colour_and_size_cuts_squares(tmp_path: Path) -> None:
    flat(tmp_path)
    picture(tmp_path / "dark" / "red.jpg", 90, (20, 10), "RGB")
    assert "red.jpg: has 20 × 10 pixels" in wrong(f"folder:{tmp_path}")
    task = find_task(f"folder:{tmp_path}", size=4)
    assert task.input_shape == (3, 4, 4) and task.load("train", None).x.dtype == torch.uint8


def spoil(change: Callable[[Path], Any]) -> Any:
    return pytest.param(change, id=change.__name__)


def one_class(path: Path) -> str:
    for file in (path / "dark").iterdir():
        file.unlink()
    (path / "dark").rmdir()
    return "one class alone, 'bright'"


def empty_class(path: Path) -> str:
    (path / "empty").mkdir()
    return "empty: no picture in it"


def unreadable(path: Path) -> str:
    (path / "dark" / "3.png").write_bytes(b"no picture")
    return "3.png: not a readable picture (no known format): replace or remove it"


def cut_off(path: Path) -> str:
    file = path / "dark" / "3.png"
    file.write_bytes(file.read_bytes()[:-30])
    return "3.png: not a readable picture"


def deep(path: Path) -> str:
    Image.new("I;16", (6, 5)).save(path / "dark" / "3.png")
    return "more than 8 bits per colour"


def empty_folder(path: Path) -> str:
    one_class(path)
    for file in (path / "bright").iterdir():
        file.unlink()
    (path / "bright").rmdir()
    return "no folder of a class in it"


def no_train(path: Path) -> str:
    flat(path / "test")
    return "has a folder 'test', and no 'train'"


def strange_class(path: Path) -> str:
    flat(path / "train"), picture(path / "test" / "grey" / "0.png")
    return "test has a class 'grey', which was not trained; there are bright, dark"


def gone(path: Path) -> str:
    path.rename(path.with_name("elsewhere"))
    return "cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    "change",
    [
        *map(spoil, (one_class, empty_class, unreadable, cut_off, deep, empty_folder)),
        *map(spoil, (no_train, strange_class, gone)),
    ],
)
def test_folders_that_cannot_be_used_are_refused_in_one_line(change, tmp_path, capsys) -> None:
    folder = flat(tmp_path / "pictures")
    expected = change(folder)
    with pytest.raises(SystemExit) as end:
        main(["train", f"folder:{folder}", "--out", str(tmp_path / "run"), *FAST])
    found = capsys.readouterr().err
    assert end.value.code == 2 and expected in found and found.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["folder", "npz", "csv"])
def test_a_run_is_described_evaluated_and_resumed(kind, tmp_path: Path, capsys) -> None:
    if kind == "folder":
        task = f"folder:{flat(tmp_path / 'data')}"
    else:
        task = f"arrays:{arrays(tmp_path / f'data.{kind}', kind)}"
    run = tmp_path / "run"
    main(["train", task, "--out", str(run), *FAST])
    said = capsys.readouterr().out
    assert "2 classes: bright 10, dark 10" in said and "16 training, 2 validation, 2 test" in said
    main(["eval", str(run)])
    assert "(2 examples)" in capsys.readouterr().out
    other = task.partition(":")[2]
    main(["eval", str(run), "--data-dir", other])
    assert f"{other}: accuracy" in (said := capsys.readouterr().out) and "(20 examples)" in said
    main(["resume", str(run), "--epochs", "3"])
    assert "test accuracy" in capsys.readouterr().out
    assert json.loads((run / "config.json").read_text())["task"] == task


def arrays(path: Path, kind: str) -> Path:
    x = np.random.default_rng(0).normal(size=(20, 3)) * [1, 10, 100]
    y = np.array(["dark", "bright"])[np.arange(20) % 2]
    if kind == "npz":
        np.savez(path, x=x, y=y)
    else:
        rows = [",".join([*map(str, row), label]) for row, label in zip(x, y, strict=True)]
        path.write_text("\n".join(["a,b,c,kind", *rows, ""]))
    return path


def test_an_interrupted_run_of_a_folder_ends_with_the_same_bits(tmp_path, monkeypatch) -> None:
    folder = flat(tmp_path / "data")
    config = resolve(Config(f"folder:{folder}", epochs=2, batch_size=8, hidden=(8,), device="cpu"))
    whole = loop.finished(tmp_path / "whole", config)
    steps = loop.create(tmp_path / "half", config)
    half = loop.open_session(steps)
    loop.save_state(steps.checkpoint, half.state())
    assert loop.train(steps, progress_bar=False)["test_loss"] == whole["test_loss"]


def test_a_changed_file_is_noticed(tmp_path: Path, capsys) -> None:
    folder = flat(tmp_path / "data")
    run = tmp_path / "run"
    main(["train", f"folder:{folder}", "--out", str(run), *FAST])
    picture(folder / "dark" / "3.png", 77)
    with pytest.raises(SystemExit) as end:
        main(["eval", str(run)])
    assert (
        end.value.code == 2 and "files have changed since the run began" in capsys.readouterr().err
    )
    (run / "summary.json").unlink()
    with pytest.raises(InputError, match="files have changed"):
        loop.train(RunFolder(run), progress_bar=False)


def test_moved_files_are_found_by_data_dir(tmp_path: Path) -> None:
    first = find_task(f"folder:{flat(tmp_path / 'data')}")
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = find_task(f"folder:{tmp_path / 'data'}", tmp_path / "moved")
    assert first.own is not None and moved.own is not None
    assert first.own.fingerprint == moved.own.fingerprint


def test_tables_are_classes_or_numbers_by_their_targets(tmp_path: Path) -> None:
    def made(cells: list[str], head: str = "a,target,b\n") -> Any:
        path = tmp_path / "t.csv"
        path.write_text(head + "".join(f"{i},{c},{i % 3}\n" for i, c in enumerate(cells)))
        return find_task(f"arrays:{path}")

    texts = made(["no", "yes"] * 10)
    assert texts.own.labels == ("no", "yes") and texts.measure.name == "accuracy"
    assert made(["10", "9"] * 10).own.labels == ("9", "10")
    values = made([f"{i * 2 + 0.5}" for i in range(20)])
    assert values.own.labels == () and values.measure.name == "nmse" and values.classes == 1
    train, val = values.training()
    assert abs(float(train.y.mean())) < 1e-6 and abs(float(train.y.std(correction=0)) - 1) < 1e-6
    assert torch.allclose(train.x.mean(0), torch.zeros(2), atol=1e-6)
    mean, deviation = values.own.target  # of the 16 training examples alone
    back = torch.cat([train.y, val.y, values.test().y]) * deviation + mean
    assert sorted(back.flatten().round(decimals=3).tolist()) == [i * 2 + 0.5 for i in range(20)]


def test_a_semicolon_or_no_header_will_do(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("1;2;yes\n3;4;no\n\n")
    table = read_table(path)
    assert table.names == ("column 1", "column 2", "column 3") and table.lines == [1, 2]
    assert numbers(table, [0, 1]).tolist() == [[1, 2], [3, 4]]
    assert targets(table).tolist() == ["yes", "no"]


@pytest.mark.parametrize(
    ("shape", "kind", "expected", "steps"),
    [
        ((20, 3), np.float64, (3,), 0),
        ((20, 5, 3), np.float32, (3,), 5),
        ((20, 5, 4), np.uint8, (1, 5, 4), 0),
        ((20, 3, 5, 4), np.uint8, (3, 5, 4), 0),
        ((20, 7, 2, 5, 4), np.float32, (2, 5, 4), 7),
    ],
)
def test_axes_are_features_time_or_pictures(shape, kind, expected, steps, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 99, shape).astype(kind)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    task = find_task(f"arrays:{tmp_path / 'a.npz'}")
    assert (task.input_shape, task.steps) == (expected, steps)
    assert not steps or f"T = {steps} steps" in task.summary
    assert len(task.load("train", None).x) == 18


def test_given_parts_of_arrays_are_kept(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 2
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    task = find_task(f"arrays:{tmp_path / 'a.npz'}")
    train, val = task.training()
    assert val is not None and (len(train), len(val), len(task.test())) == (11, 1, 3)


def save(path: Path, **arrays: Any) -> None:
    x = np.random.default_rng(0).normal(size=(20, 2))
    np.savez(path, **{"x": x, "y": np.arange(20) % 2, **arrays})


def nan(path: Path) -> str:
    save(path, x=np.full((20, 2), np.nan))
    return "row 0 of x contains NaN"


def no_labels(path: Path) -> str:
    np.savez(path, x=np.zeros((20, 2)))
    return "has no array 'y'"


def no_arrays(path: Path) -> str:
    np.savez(path, data=np.zeros((20, 2)))
    return "has no array 'x', but data"


def no_npz(path: Path) -> str:
    path.write_bytes(b"PK no archive")
    return "not a readable .npz file"


def pickles(path: Path) -> str:
    save(path, y=np.array([{}] * 20, dtype=object))
    return "not that of plain numbers"


def lengths(path: Path) -> str:
    save(path, y=np.arange(3))
    return "x has the shape (20, 2) and y (3,)"


def one_label(path: Path) -> str:
    save(path, y=np.ones(20, dtype=int))
    return "one class alone, '1'"


def whole_values(path: Path) -> str:
    save(path, y=np.arange(20))
    return "too many for classes: values to predict must be floating-point numbers"


def other_kind(path: Path) -> str:
    save(path, x_test=np.zeros((2, 2)), y_test=np.zeros(2))
    return "targets are numbers in one part and labels in another"


def constant(path: Path) -> str:
    save(path, y=np.ones(20))
    return "the same in every row"


def few(path: Path) -> str:
    save(path, x=np.zeros((3, 2)), y=np.array([0, 1, 0]))
    return "3 examples: at least 10 are needed"


def no_file(path: Path) -> str:
    return "cannot be read (No such file or directory)"


BAD_ARRAYS = (nan, no_labels, no_arrays, no_npz, pickles, lengths, one_label, whole_values)


@pytest.mark.parametrize("change", [*map(spoil, (*BAD_ARRAYS, other_kind, constant, few, no_file))])
def test_arrays_that_cannot_be_used_are_refused_in_one_line(change, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    expected = change(path)
    assert expected in wrong(f"arrays:{path}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("a,b\n", "has a header and no row"),
        ("1\n2\n", "has one column alone"),
        ("1,2,a\n1,2\n", "line 2 has 2 cells, the first one has 3"),
        ("a,b,c\n1,,x\n", "line 2, b: the cell is empty"),
        ("a,b,c\n1,nan,x\n", "line 2, b: 'nan' is no finite number"),
        ("a,b,c\n1,red,x\n", "line 2, b: 'red' is no finite number"),
        ("a,b,c\n1,2,x\n1,2,\n", "line 3 has no target (c)"),
        ('a,b,c\n1,2,"x\n', "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used_are_refused_in_one_line(text, expected, tmp_path) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert expected in wrong(f"arrays:{tmp_path / 't.csv'}")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='0123456789.,;\n"ab-e\t', max_size=80) | st.binary(max_size=60))
def test_any_table_is_read_or_refused(tmp_path_factory, content: str | bytes) -> None:
    path = tmp_path_factory.mktemp("tables") / "t.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        assert find_task(f"arrays:{path}").classes
    except InputError as error:
        assert "\n" not in str(error)


def test_other_endings_and_names_without_a_path_are_refused(tmp_path: Path) -> None:
    assert "neither .npz nor .csv" in wrong(f"arrays:{tmp_path / 'a.pt'}")
    assert "names no path" in wrong("folder:")
    with pytest.raises(InputError, match="--size 8: mnist is no folder of pictures"):
        resolve(Config(size=8))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_every_stretch_of_the_order_has_the_classes_in_proportion(labels: list[int]) -> None:
    y = torch.tensor(labels)
    order = ordered(y)
    assert sorted(order.tolist()) == list(range(len(labels)))
    half = y[order][: len(y) // 2].bincount(minlength=5)
    assert bool(((half - y.bincount(minlength=5) / 2).abs() <= 2).all())


def test_the_steps_of_a_trial_are_printed(tmp_path: Path, capsys) -> None:
    x = np.random.default_rng(0).integers(0, 2, (20, 6, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20) % 2)
    words = ["--system", "lif", "--out", str(tmp_path / "run"), *FAST]
    main(["train", f"arrays:{tmp_path / 'a.npz'}", *words])
    said = capsys.readouterr().out
    assert "sequences of T = 6 steps" in said and "T = 6 time steps in lif" in said


def test_names_of_classes_may_be_any_text(tmp_path: Path, capsys) -> None:
    for label in ("a,b", "c d"):
        for i in range(5):
            picture(tmp_path / "data-v2" / label / f"{i}.png", 20 * i)
    main(["train", f"folder:{tmp_path / 'data-v2'}", "--out", str(tmp_path / "run"), *FAST])
    assert "2 classes: a,b 5, c d 5" in capsys.readouterr().out
