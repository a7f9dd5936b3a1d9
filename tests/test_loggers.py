"""Logs of training for other programs: `--log csv`, tensorboard, wandb and mlflow."""

import csv
import json
import sys
from pathlib import Path

import pytest
from tiny import config, interrupted, metrics, run

from noisynets.cli import main
from noisynets.core.errors import InputError
from noisynets.run import loggers
from noisynets.run.folder import RunFolder
from noisynets.run.loggers import check_log, logged

TINY = {"epochs": 2, "rule": "bp"}
STEPS = 13
"""Steps of an epoch: 250 examples, 20 a batch."""


def lines(folder: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder.path / "log.csv").read_text().splitlines()))


def epochs(found: list[tuple[int, str, float]]) -> list[tuple[int, float]]:
    return [(step, value) for step, name, value in found if name == "epoch/val_accuracy"]


def expected(folder: RunFolder) -> list[tuple[int, float]]:
    """Steps and validation scores of all epochs, from metrics.csv."""
    rows = metrics(folder)
    return [(STEPS * int(row["epoch"]), float(row["val_accuracy"])) for row in rows]


def close(a: list[tuple[int, float]], b: list[tuple[int, float]]) -> bool:
    return len(a) == len(b) and all(
        i == j and abs(x - y) < 1e-6 for (i, x), (j, y) in zip(a, b, strict=True)
    )


def read_csv(folder: RunFolder) -> list[tuple[int, str, float]]:
    return [(int(r["step"]), r["name"], float(r["value"])) for r in lines(folder)]


def test_a_csv_file_has_steps_epochs_and_the_result(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", log="csv", **TINY)
    found = read_csv(folder)
    assert close(epochs(found), expected(folder))
    rates = [(step, value) for step, name, value in found if name == "step/lr"]
    assert [step for step, _ in rates] == [1, STEPS, STEPS + 13]
    assert rates[0][1] > rates[-1][1] > 0  # cosine
    summary = folder.summary()
    assert summary is not None
    (result,) = (value for _, name, value in found if name == "result/test_accuracy")
    assert abs(result - summary["test_accuracy"]) < 1e-6


def test_an_interrupted_run_has_every_value_once(tmp_path: Path, monkeypatch) -> None:
    folder = interrupted(tmp_path / "run", monkeypatch, {"log": "csv", **TINY}, 2)
    found = [(step, name) for step, name, _ in read_csv(folder)]
    assert len(set(found)) == len(found)
    assert close(epochs(read_csv(folder)), expected(folder))


def test_tensorboard_reads_what_was_logged(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = run(tmp_path / "whole", log="tensorboard", **TINY)
    part = interrupted(tmp_path / "part", monkeypatch, {"log": "tensorboard", **TINY}, 2)
    for folder in (whole, part):
        events = EventAccumulator(str(folder.path / "tensorboard"))
        events.Reload()
        read = [
            (e.step, "epoch/val_accuracy", e.value) for e in events.Scalars("epoch/val_accuracy")
        ]
        assert close(epochs(read), expected(folder))
        assert {"step/train_loss", "step/lr", "result/test_loss"} <= set(events.Tags()["scalars"])
        assert "settings/text_summary" in events.Tags()["tensors"]


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, which mlflow uses
def test_mlflow_reads_what_was_logged(tmp_path: Path, monkeypatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    folder = run(tmp_path / "run", log="mlflow", **TINY)
    client = mlflow.MlflowClient()
    name = json.loads((folder.path / "log.json").read_text())["mlflow"]
    read = [(m.step, m.value) for m in client.get_metric_history(name, "epoch/val_accuracy")]
    assert close(read, expected(folder))
    assert client.get_run(name).data.params["rule"] == "bp"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_named_before_anything_is_written(
    name, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", "tiny", "--system", "mlp", "--log", name, "--out", str(out)])
    found = capsys.readouterr().err
    assert end.value.code == 2 and found.count("\n") == 1 and not out.exists()
    assert f"the package {name} is not installed: install noisynets[loggers]" in found


def test_a_log_that_fails_warns_once_and_the_run_goes_on(tmp_path: Path, monkeypatch) -> None:
    def fail(folder, config, done):
        def write(step, values):
            raise ConnectionError("the server is gone")

        return write, lambda: None

    monkeypatch.setitem(loggers.KINDS, "csv", loggers.Kind("csv", "", fail))
    with pytest.warns(UserWarning, match="--log csv failed .the server is gone.") as found:
        folder = run(tmp_path / "run", log="csv", **TINY)
    assert len(found) == 1 and folder.summary() is not None


def test_without_a_log_nothing_is_imported_or_written(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", **TINY)
    assert not (folder.path / "log.csv").exists() and "wandb" not in sys.modules
    with logged(folder, config(), 0) as log:
        log(1, {"a": 1.0})
    check_log(config())
    with pytest.raises(InputError, match="unknown log 'tensorbord': did you mean 'tensorboard'"):
        config(log="tensorbord")
