"""Where the runs of a suite are made: in this process, in others of this machine, or in a cluster.

An engine is a context: it ends its processes when it is left, and when the program is interrupted
it waits until they have saved their states.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from noisynets.bench.cluster import dask
from noisynets.bench.slurm import slurm
from noisynets.core.errors import InputError
from noisynets.run.allocator import keep_freed
from noisynets.run.plugins import load_plugins
from noisynets.run.signals import PATIENCE

T = TypeVar("T")
R = TypeVar("R")
LOCAL, DASK, SLURM = "local", "dask", "slurm"


class Engine(Protocol):
    """Makes calls, several at a time.

    Attributes:
        jobs: number of calls at a time, at most.
    """

    jobs: float

    def submit(self, work: Callable[[T], R], item: T, name: str, place: int) -> Future[R]:
        """Make a call, now or later.

        Args:
            work: a function of a module.
            item: its argument.
            name: of the call, in the cluster's dashboard.
            place: calls with a lower one come first.
        """


def place(on: str) -> tuple[str, str]:
    """Return the kind of engine that a text names, and an address; '' for the other kinds.

    Raises:
        InputError: if it names none.

    >>> place("dask:tcp://10.0.0.1:8786")
    ('dask', 'tcp://10.0.0.1:8786')
    """
    kind, colon, address = on.partition(":")
    if (kind == DASK and address) or on in (LOCAL, SLURM):
        return kind, address
    raise InputError(f"--on {on}: must be {LOCAL}, {DASK}:ADDRESS or {SLURM}")


def engine(
    on: str, jobs: int, out: Path, say: Callable[[str], None]
) -> AbstractContextManager[Engine]:
    """Return the context of an engine.

    Args:
        on: 'local', 'dask:ADDRESS' or 'slurm'.
        jobs: calls at a time; 0: as many as there are cores.
        out: folder of the results, which the workers of a cluster share.
        say: called with a line about a cluster.

    Raises:
        InputError: if it cannot be used.
    """
    kind, address = place(on)
    if kind == DASK:
        return dask(address, jobs, out, say)
    if kind == SLURM:
        return slurm(jobs, out, say)
    return _local(jobs or os.cpu_count() or 1, out)


@contextmanager
def _local(jobs: int, out: Path) -> Iterator[Engine]:
    """Make calls in this process, or several at a time in processes of their own."""
    if jobs == 1:
        yield _SameProcess()
        return
    try:
        with _Processes(jobs, get_context("spawn"), initializer=set_up_process) as pool:
            with _stopped(pool):
                yield _Pool(pool, jobs)
    except BrokenProcessPool as error:
        raise InputError(
            f"{out}: the process of a run was killed, possibly for lack of memory: repeat the "
            "command with --jobs 1 to continue"
        ) from error


class _SameProcess:
    """Makes every call at once in this process."""

    jobs: float = 1

    def submit(self, work: Callable[[T], R], item: T, name: str, place: int) -> Future[R]:
        future: Future[R] = Future()
        future.set_result(work(item))
        return future


class _Pool:
    """Makes calls in the processes of a pool."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: float) -> None:
        self._pool, self.jobs = pool, jobs

    def submit(self, work: Callable[[T], R], item: T, name: str, place: int) -> Future[R]:
        return self._pool.submit(work, item)


class _Processes(ProcessPoolExecutor):
    """An executor whose processes take no SIGINT: a terminal sends it to all, and one is enough.

    They would print a traceback each, while they import modules.
    """

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not hasattr(signal, "pthread_sigmask"):  # on Windows
            return super().submit(fn, *args, **kwargs)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _stopped(pool: ProcessPoolExecutor) -> Iterator[None]:
    """Stop the pool's runs when this process is interrupted; they save their states first."""
    try:
        yield
    except KeyboardInterrupt:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        for process in processes:
            process.terminate()
        end = time.monotonic() + PATIENCE - 1
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
            process.kill()
        raise


def set_up_process() -> None:
    """Set up a process of the pool; it ends when its parent process has ended."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    tqdm.set_lock(threading.RLock())  # the default is a semaphore, which such an end would leak
    keep_freed()
    load_plugins()
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
