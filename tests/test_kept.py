"""Checkpoints that are kept, early stopping, and runs that get more epochs."""

import json
from pathlib import Path

import pytest
from tiny import config, metrics, run, same
from tiny import interrupted as interrupted_run

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import load_state
from noisynets.run.folder import RunFolder, create
from noisynets.run.kept import best, best_epoch, exhausted, of_epoch
from noisynets.run.train import open_trained, train
from noisynets.tasks.data import ACCURACY, NMSE

NOISY = {"lr": 0.05, "epochs": 6, "rule": "bp"}
"""Settings with which the validation score goes up and down."""


def rows(*scores: float) -> list[dict[str, float]]:
    return [{"val_accuracy": s, "val_nmse": s} for s in scores]


def test_the_best_epoch_is_the_first_of_the_best() -> None:
    assert best_epoch(rows(0.2, 0.9, 0.5, 0.9), ACCURACY) == 2
    assert best_epoch(rows(0.2, 0.9, 0.1, 0.1), NMSE) == 3
    assert best_epoch([], ACCURACY) == 0


def test_patience_counts_epochs_since_the_best() -> None:
    assert [exhausted(2, rows(*([0.9] * n)), ACCURACY) for n in (1, 2, 3)] == [False, False, True]
    assert not exhausted(0, rows(0.9, 0.1, 0.1, 0.1), ACCURACY)


def scores(folder: RunFolder) -> list[float]:
    return [float(row["val_accuracy"]) for row in metrics(folder)]


def test_the_best_weights_are_kept_tested_and_used(tmp_path: Path) -> None:
    folder, every = (
        run(tmp_path / "a", keep="best", **NOISY),
        run(tmp_path / "b", keep="all", **NOISY),
    )
    found = scores(folder)
    epoch = 1 + found.index(max(found))
    assert epoch < len(found)  # else nothing is tested here
    summary = folder.summary()
    assert summary is not None and summary["epoch"] == epoch
    assert summary["val_accuracy"] == found[epoch - 1]
    kept = load_state(best(folder))["system"]
    assert same(kept, load_state(of_epoch(every, epoch))["system"])
    assert same(open_trained(folder).system.state_dict(), kept)
    for number in range(1, 7):
        state = open_trained(every, epoch=number).system.state_dict()
        assert same(state, load_state(of_epoch(every, number))["system"])
    assert not same(kept, load_state(folder.checkpoint)["system"])
    assert same(load_state(of_epoch(every, 6))["system"], load_state(every.checkpoint)["system"])


def test_eval_reads_an_epoch(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "a", keep="all", **NOISY)
    for number, score in enumerate(scores(folder), 1):
        main(["eval", str(folder.path), "--split", "validation", "--epoch", str(number)])
        assert f"accuracy {score:.4f}" in capsys.readouterr().out
    with pytest.raises(InputError, match="no checkpoint of epoch 9, but of epoch 6"):
        open_trained(folder, epoch=9)


def test_a_run_ends_early_and_is_complete(tmp_path: Path, capsys) -> None:
    folder = run(tmp_path / "a", patience=1, **NOISY | {"epochs": 30})
    found = scores(folder)
    assert len(found) < 30 and max(found[:-1]) >= found[-1]
    before = folder.checkpoint.read_bytes()
    main(["resume", str(folder.path)])
    assert folder.checkpoint.read_bytes() == before
    main(["resume", str(folder.path), "--patience", "0", "--epochs", str(len(found) + 1)])
    assert len(scores(folder)) == len(found) + 1


def test_an_interrupted_run_keeps_the_same_checkpoints(tmp_path, monkeypatch) -> None:
    whole = run(tmp_path / "a", keep="best", patience=2, **NOISY)
    half = interrupted_run(tmp_path / "b", monkeypatch, {"keep": "best", "patience": 2, **NOISY}, 2)
    assert same(load_state(best(whole))["system"], load_state(best(half))["system"])
    a, b = whole.summary(), half.summary()
    assert a is not None and b is not None and a["test_loss"] == b["test_loss"]


def test_more_epochs_of_a_cosine_are_noted_and_of_a_constant_rate_the_same(
    tmp_path: Path, capsys
) -> None:
    long = run(tmp_path / "long", schedule="constant", epochs=3)
    short = run(tmp_path / "short", schedule="constant", epochs=2)
    main(["resume", str(short.path), "--epochs", "3"])
    assert same(load_state(long.checkpoint)["system"], load_state(short.checkpoint)["system"])
    assert "schedule" not in capsys.readouterr().err
    cosine = run(tmp_path / "cosine", epochs=2)
    main(["resume", str(cosine.path), "--epochs", "4"])
    words = "the cosine schedule of 2 epochs was followed up to epoch 2, that of 4 from there on"
    assert words in capsys.readouterr().err
    assert any(
        words in note for note in json.loads((cosine.path / "summary.json").read_text())["notes"]
    )


def test_without_a_validation_set_there_is_no_best_epoch() -> None:
    for settings in ({"keep": "best"}, {"patience": 3}):
        with pytest.raises(InputError, match="with --final-fit there is no validation set"):
            config(final_fit=True, **settings)


def test_a_missing_best_checkpoint_is_named(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", keep="best", **NOISY)
    best(folder).unlink()
    with pytest.raises(InputError, match="has no checkpoint of epoch"):
        open_trained(folder)
    assert create(tmp_path / "c", config()).path.is_dir()
    with pytest.raises(InputError, match="no checkpoint yet"):
        open_trained(RunFolder(tmp_path / "c"))
    assert train(RunFolder(tmp_path / "c"), progress_bar=False)["epoch"] == 3
