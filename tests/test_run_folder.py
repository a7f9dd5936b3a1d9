"""Run folders: what is in them, and what is refused."""

import json
from pathlib import Path

import pytest
from tiny import config, metrics, run

from noisynets.core.errors import InputError
from noisynets.run.folder import create
from noisynets.run.summary import columns
from noisynets.run.train import open_session


@pytest.mark.pictures
def test_the_run_folder_holds_what_is_promised(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", rule="danp")
    rows = metrics(folder)
    assert tuple(rows[0]) == columns("accuracy") and [r["epoch"] for r in rows] == ["1", "2", "3"]
    assert int(rows[-1]["sample_forwards"]) == 3 * 250 * 2
    summary = json.loads((folder.path / "summary.json").read_text())
    assert {
        "test_accuracy", "val_accuracy", "train_accuracy", "sample_forwards", "seconds",
        "peak_memory_mb", "rule", "system", "seed", "diverged",
    } <= summary.keys()  # fmt: skip
    assert summary["val_accuracy"] == float(rows[-1]["val_accuracy"])
    assert folder.curves.read_bytes().startswith(b"\x89PNG")
    assert folder.config() == config(rule="danp")
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "checkpoint.safetensors", "config.json", "curves.png", "metrics.csv", "summary.json",
    ]  # fmt: skip


def test_checkpoints_that_are_truncated_or_foreign_are_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", epochs=1)
    data = folder.checkpoint.read_bytes()
    for cut in (0, 5, 100, len(data) // 2, len(data) - 1):
        folder.checkpoint.write_bytes(data[:cut])
        with pytest.raises(InputError, match="damaged"):
            open_session(folder)
    other = run(tmp_path / "other", epochs=1, hidden=(9,))
    folder.checkpoint.write_bytes(other.checkpoint.read_bytes())
    with pytest.raises(InputError, match="does not fit"):
        open_session(folder)


@pytest.mark.parametrize(
    "change",
    [{"rule": "amp"}, {"epochs": "many"}, {"hidden": 3}, {"colour": "red"}, {"device": "cuda"}],
    ids=str,
)
def test_a_config_that_cannot_be_used_is_refused(change, tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    file = folder.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match="config.json"):
        folder.config()
    file.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        folder.config()


def test_a_damaged_summary_is_refused(tmp_path: Path) -> None:
    folder = create(tmp_path / "run", config())
    (folder.path / "summary.json").write_text('{"test_acc')
    with pytest.raises(InputError, match="cannot be read"):
        folder.summary()


def test_the_present_folder_will_do_if_it_is_empty(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert create(Path("."), config()).config() == config()


def test_an_existing_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    create(tmp_path / "mine", config())  # empty: fine
    with pytest.raises(InputError, match="not empty"):
        create(tmp_path / "mine", config())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        create(tmp_path / "file", config())
    with pytest.raises(InputError, match="cannot be written"):
        create(tmp_path / "file" / "below", config())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]
