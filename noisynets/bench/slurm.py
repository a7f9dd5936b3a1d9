"""Calls in jobs of SLURM, which dask-jobqueue submits with the settings of dask's configuration."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from noisynets.bench.cluster import DaskEngine, quiet, serving, shared
from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.core.reading import reason

SETTINGS, FILE = "jobqueue.slurm", "~/.config/dask/jobqueue.yaml"
"""Where dask-jobqueue reads what a job needs."""


@contextmanager
def slurm(jobs: int, out: Path, say: Callable[[str], None]) -> Iterator[DaskEngine]:
    """Make calls in jobs of SLURM, with the settings of dask's own configuration.

    Args:
        jobs: calls at a time, at most.
        out: folder of the results, which all machines share.
        say: called with a line about the cluster.

    Raises:
        InputError: if SLURM is not there, or settings are missing or refused.
    """
    on = "--on slurm"
    with extra("distributed", on), _handlers_kept():
        from dask import config
        from dask_jobqueue.slurm import SLURMCluster
        from distributed import Client
    if not jobs:
        raise InputError(f"{on}: add --jobs N, the number of runs at a time, at most")
    if shutil.which("sbatch") is None:
        raise InputError(f"{on}: sbatch is not found: use a machine that submits jobs to SLURM")
    missing = [name for name in ("cores", "memory") if config.get(f"{SETTINGS}.{name}") is None]
    if missing:
        raise InputError(f"{on}: set {' and '.join(missing)} under {SETTINGS} in {FILE}")
    with quiet(logging.ERROR):
        try:
            cluster = SLURMCluster()
        except (ValueError, OSError) as error:
            why = reason(error)
            raise InputError(f"{on}: change what is under {SETTINGS} in {FILE} ({why})") from error
        with cluster, Client(cluster, set_as_default=False) as client, shared(out) as terms:
            _check_script(cluster.job_script(), on)
            cluster.adapt(
                maximum_jobs=math.ceil(jobs / config.get(f"{SETTINGS}.cores")),
                target_duration=config.get("distributed.scheduler.unknown-task-duration"),
            )
            yield from serving(DaskEngine(client, terms, jobs), client, on, say)


def _check_script(script: str, on: str) -> None:
    """Let SLURM check a job script.

    Raises:
        InputError: if it refuses the script.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        checked = subprocess.run(
            ["sbatch", "--test-only", file.name], capture_output=True, text=True
        )
    if checked.returncode:
        said = " ".join(checked.stderr.split())
        raise InputError(
            f"{on}: sbatch refuses the jobs ({said}): change what is under {SETTINGS} in {FILE}"
        )


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the handler of SIGINT, which dask-jobqueue replaces when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
