"""`bench --on`: what is refused, with and without the extra, and the jobs for SLURM."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_cli import call

from noisynets.bench import bench, read_suite
from noisynets.bench import cluster as bench_cluster
from noisynets.bench.cluster import patiently
from noisynets.run.lock import InUse
from noisynets.run.remote import Terms

SUITE = """
[settings]
task = "yinyang"
train_examples = 500
epochs = 2
batch_size = 100
hidden = [4]
device = "cpu"

[[case]]
name = "a"
rules = ["bp"]
tuned.bp = { lr = 1e-2 }
"""
SBATCH = """#!/bin/sh
if [ "$1" = --test-only ]; then exit 0; fi
cp "$1" "{folder}/job.sh"
setsid sh "{folder}/job.sh" >"{folder}/log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = '#!/bin/sh\nkill -TERM -"$1"\n'
needs_dask = pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="needs distributed")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "short.toml"
    path.write_text(SUITE)
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the last line on standard error of a command that ends with exit code 2."""
    assert call("bench", *map(str, words)) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("on", ["dask", "dask:", "slurm:x", "locla", "", "local:2"])
def test_places_that_are_none_are_refused(on: str, file: Path, capsys) -> None:
    line = refused(capsys, file, "--on", on)
    assert line == f"noisynets: --on {on}: must be local, dask:ADDRESS or slurm"


@pytest.mark.parametrize("suite", ["speed", "networks"])
def test_what_is_measured_here_is_not_sent_elsewhere(suite: str, capsys) -> None:
    assert "on this machine alone" in refused(capsys, suite, "--on", "slurm", "--jobs", 2)


@pytest.mark.parametrize("on", ["dask:127.0.0.1:8786", "slurm"])
def test_a_missing_extra_is_one_line(on: str, file: Path, tmp_path, monkeypatch, capsys) -> None:
    for package in ("dask", "distributed", "dask_jobqueue"):
        monkeypatch.setitem(sys.modules, package, None)
    line = refused(capsys, file, "--on", on, "--jobs", 1, "--out", tmp_path / "out")
    assert line.startswith(f"noisynets: --on {on} needs more packages")
    assert line.endswith("python -m pip install 'noisynets[distributed]'")


def test_a_worker_takes_calls_of_its_version_and_folder_alone(tmp_path: Path) -> None:
    here = version("noisynets")
    (tmp_path / "file").write_text("x")
    assert Terms(here, str(tmp_path), "file", "x").refusal() == ""
    assert Terms(here, "/absent", str(tmp_path / "file"), "x").refusal() == ""
    for terms in (
        Terms(here, str(tmp_path), "file", "y"),
        Terms(here, str(tmp_path), "other", "x"),
        Terms(here, "/absent", "file", "x"),
    ):
        assert "does not share the folder" in terms.refusal()


def test_a_call_waits_until_the_process_before_has_ended(monkeypatch) -> None:
    monkeypatch.setattr(bench_cluster, "keep_freed", lambda: None)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    made: list[int] = []

    def work(item: int) -> int:
        made.append(item)
        if len(made) < 3:
            raise InUse("in use")
        return item + 1

    assert patiently((work, 4)) == 5 and made == [4, 4, 4]
    monkeypatch.setattr(bench_cluster, "LATE", -1.0)
    made.clear()
    with pytest.raises(InUse):
        patiently((work, 4))


# --- SLURM -------------------------------------------------------------------------------------


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that puts a program into the place of SLURM's sbatch."""

    def put(text: str, name: str = "sbatch") -> Path:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        return path

    return put


@needs_dask
def test_without_slurm_or_with_settings_that_it_refuses_there_is_one_line(
    file: Path, sbatch, tmp_path: Path, monkeypatch, capsys
) -> None:
    import dask

    before, out = signal.getsignal(signal.SIGINT), tmp_path / "out"
    line = refused(capsys, file, "--on", "slurm", "--out", out)
    assert line.startswith("noisynets: --on slurm: add --jobs N")
    words = (file, "--on", "slurm", "--jobs", 2, "--out", out)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert "sbatch is not found" in refused(capsys, *words)
    sbatch("#!/bin/sh\necho 'sbatch: error: invalid partition' >&2\nexit 1\n")
    line = refused(capsys, *words)
    assert "set cores and memory under jobqueue.slurm in ~/.config" in line
    settings = {"cores": 1, "memory": "1GB", "scheduler-options": {"dashboard_address": ":0"}}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in settings.items()}):
        line = refused(capsys, *words)
    assert "sbatch refuses the jobs (sbatch: error: invalid partition)" in line
    assert signal.getsignal(signal.SIGINT) is before


@needs_dask
def test_jobs_of_slurm_make_the_runs(file: Path, sbatch, tmp_path: Path) -> None:
    """With a program that runs a job's script at once in the place of SLURM."""
    import dask

    sbatch(SBATCH.format(folder=tmp_path))
    sbatch(SCANCEL, "scancel")
    settings = {
        **{"cores": 2, "processes": 1, "memory": "3GB", "queue": "long", "account": "lab"},
        **{"walltime": "02:00:00", "job-extra-directives": ["--nice=5"]},
        **{"local-directory": str(tmp_path), "scheduler-options": {"dashboard_address": ":0"}},
    }
    suite, said = replace(read_suite(str(file)), seeds=(0,)), list[str]()
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in settings.items()}):
        (group,) = bench(suite, tmp_path / "out", on="slurm", jobs=3, say=said.append)
    assert len(group.compared) == 1 and "dashboard http://" in said[0]
    script = (tmp_path / "job.sh").read_text()
    lines = script.splitlines()
    for line in ("-p long", "-A lab", "--cpus-per-task=2", "--mem=3G", "-t 02:00:00", "--nice=5"):
        assert f"#SBATCH {line}" in lines
    (command,) = [line for line in lines if not line.startswith("#") and line.strip()]
    assert command.startswith(f"{sys.executable} -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 2" in command
