"""Suites on dask clusters: the same results, also when workers are killed; errors of one line."""

import csv
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_cli import call
from tiny import final, same

pytest.importorskip("distributed")

import dask
import psutil
from distributed import Client, LocalCluster

from noisynets.bench import bench, read_suite
from noisynets.bench.suite import Suite
from noisynets.run.checkpoint import load_state
from noisynets.run.folder import RunFolder
from noisynets.run.lock import LOCK

pytestmark = pytest.mark.xdist_group("cluster")  # one process, so that it starts one cluster
SUITE = """
[settings]
task = "yinyang"
epochs = 200
batch_size = 100
train_examples = 500
hidden = [4]
device = "cpu"

[[case]]
name = "a"
rules = ["bp"]
tuned.bp = { lr = 1e-2 }
"""
EPOCHS = 200


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers for one run at a time each, which are started again when they are killed."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as found:
        yield found


@pytest.fixture
def on(cluster: LocalCluster) -> Iterator[str]:
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        yield f"dask:{cluster.scheduler_address}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "short.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def suite(file: Path) -> Suite:
    return replace(read_suite(str(file)), seeds=(0,))


@pytest.fixture(scope="module")
def expected(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the suite's results, made in this process."""
    out = tmp_path_factory.mktemp("expected")
    bench(suite, out)
    return out


def rows(out: Path) -> list[dict[str, str]]:
    """The table without times."""
    found = csv.DictReader((out / "results.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def runs(out: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(out.rglob("config.json"))]


def lines(folder: RunFolder) -> list[str]:
    """Lines of metrics.csv, times included."""
    file = folder.path / "metrics.csv"
    return file.read_text().splitlines()[1:] if file.exists() else []


def begun(out: Path, after: int = 0) -> tuple[RunFolder, psutil.Process]:
    """Return the only run and its process, when it has made two epochs more."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for folder in runs(out):
            if len(lines(folder)) >= after + 2:
                return folder, psutil.Process(int((folder.path / LOCK).read_text().split()[1]))
        time.sleep(0.01)
    raise TimeoutError("the run has not begun")


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_a_killed_worker_changes_no_bit(
    suite: Suite, expected: Path, on: str, tmp_path: Path
) -> None:
    """A worker is killed together with the process of its run, as on a machine that fails."""
    before, said = list[str](), list[str]()

    def kill() -> None:
        folder, process = begun(tmp_path)
        process.parent().kill()
        process.kill()
        before.extend(lines(folder))

    killer = meanwhile(kill)
    bench(suite, tmp_path, jobs=0, on=on, say=said.append)
    killer.join()
    assert rows(tmp_path) == rows(expected)
    (one,), (other,) = runs(tmp_path), runs(expected)
    assert same(final(one), final(other))
    assert 2 <= len(before) < EPOCHS == len(lines(one))
    assert lines(one)[: len(before)] == before  # continued, not repeated
    assert len(said) == 1 and f"--on {on}: 2 runs at a time so far, dashboard http" in said[0]
    assert not (tmp_path / ".shared").exists()


def test_a_killed_run_continues_and_an_interrupted_one_is_saved(
    suite: Suite, expected: Path, on: str, tmp_path: Path
) -> None:
    """The run ends before the interrupted suite does, which is then finished in this process."""
    found = list[tuple[RunFolder, psutil.Process]]()
    main = threading.main_thread().ident
    assert main is not None

    def act() -> None:
        folder, process = begun(tmp_path)
        process.kill()
        found.append((folder, process))
        time.sleep(0.1)
        found.append(begun(tmp_path, after=len(lines(folder))))
        signal.pthread_kill(main, signal.SIGINT)

    stopper = meanwhile(act)
    with pytest.raises(KeyboardInterrupt):
        bench(suite, tmp_path, jobs=1, on=on)
    stopper.join()
    (_, first), (folder, second) = found
    assert first.pid != second.pid and not second.is_running()
    assert len(load_state(folder.checkpoint)["progress"]["rows"]) == len(lines(folder)) < EPOCHS
    bench(suite, tmp_path)
    assert rows(tmp_path) == rows(expected)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "noisynets.bench.cluster.version",
            lambda name: "0.0.1",
            "and this program 0.0.1: install the same version",
        ),
        ("noisynets.bench.cluster.write_atomically", lambda *a: None, "does not share the folder"),
    ],
)
def test_workers_that_cannot_make_the_runs_are_named(
    name, value, words, file: Path, on: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(name, value)
    assert call("bench", str(file), "--on", on, "--out", str(tmp_path / "out")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("noisynets: worker tcp://") and words in last


def test_addresses_where_no_scheduler_answers_are_named(
    file: Path, on: str, cluster: LocalCluster, tmp_path: Path, capsys
) -> None:
    with Client(cluster, set_as_default=False) as client:
        worker = next(iter(client.nthreads()))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with dask.config.set({"distributed.comm.timeouts.connect": "300ms"}):
            for address, words in (
                (f"tcp://127.0.0.1:{port}", "no dask scheduler has answered within 0.3 s"),
                ("tcp://127.0.0.1:1", "no dask scheduler has answered within 0.3 s"),
                ("http://127.0.0.1:1", "is no address of a dask scheduler (unknown address"),
                ("127.0.0.1", "is no address of a dask scheduler (missing port"),
                (worker, "is a Worker, and no dask scheduler"),
            ):
                out = str(tmp_path / "out")
                assert call("bench", str(file), "--on", f"dask:{address}", "--out", out) == 2
                last = capsys.readouterr().err.splitlines()[-1]
                assert last.startswith(f"noisynets: --on dask:{address}: {words}")
