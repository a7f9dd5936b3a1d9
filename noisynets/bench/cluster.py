"""Calls on the workers of a dask cluster, which may be on other machines.

Every call is a process of its own on a worker ([remote.py](../run/remote.py)). When a worker is
lost, dask starts its calls again on others, where runs continue from their checkpoints: all
machines share the folder of the results. dask and dask-jobqueue are imported when they are used.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from tqdm import tqdm

from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.core.reading import reason
from noisynets.run.allocator import keep_freed
from noisynets.run.checkpoint import write_atomically
from noisynets.run.lock import InUse
from noisynets.run.plugins import load_plugins
from noisynets.run.remote import Lost, Terms, called
from noisynets.run.signals import PATIENCE

T = TypeVar("T")
R = TypeVar("R")
AGAIN = 3
"""How often a call whose process was killed is made again."""
LATE = 60.0
"""Seconds for which a run waits until the process that made it before has ended."""
AGREED = "the same command goes on from there"


class DaskEngine:
    """Makes calls on the workers of a cluster.

    Args:
        client: connected to the scheduler.
        terms: on which workers may make calls.
        jobs: number of calls at a time, at most.

    Attributes:
        jobs: number of calls at a time, at most.
    """

    def __init__(self, client: Any, terms: Terms, jobs: float) -> None:
        self._client, self._terms, self.jobs = client, terms, jobs
        self._sent: set[Any] = set()

    def submit(self, work: Callable[[T], R], item: T, name: str, place: int) -> Future[R]:
        """Send a call; those with a lower place come first."""
        future: Future[R] = Future()
        sent = self._client.submit(
            called,
            pickle.dumps((patiently, (work, item))),
            self._terms,
            key=f"{name}-{uuid4().hex}",
            priority=-place,
            retries=AGAIN,
            pure=False,
        )
        self._sent.add(sent)
        sent.add_done_callback(partial(self._hand_over, future, name))
        return future

    def _hand_over(self, future: Future[R], name: str, sent: Any) -> None:
        """Put what a worker answered into a future."""
        self._sent.discard(sent)
        outcome = _outcome(sent, name)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def stop(self) -> None:
        """Stop the calls that workers make; wait for a short time until they have saved."""
        sent = list(self._sent)
        keys = [one.key for one in sent]
        self._client.cancel(sent)
        end = time.monotonic() + PATIENCE - 2
        while time.monotonic() < end:
            if not any(self._client.run(_unfinished, keys, on_error="ignore").values()):
                return
            time.sleep(0.1)


def patiently(call: tuple[Callable[[T], R], T]) -> R:
    """Make a call in a process of its own; wait while the folder of its run is in use.

    The process that made the run before, on a worker that was lost, may not have ended yet.
    """
    tqdm.set_lock(threading.RLock())  # the default is a semaphore, which a kill would leak
    keep_freed()
    load_plugins()
    work, item = call
    end = time.monotonic() + LATE
    while True:
        try:
            return work(item)
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(1)


@contextmanager
def dask(address: str, jobs: int, out: Path, say: Callable[[str], None]) -> Iterator[DaskEngine]:
    """Make calls on the workers of a scheduler that is there.

    Args:
        address: of the scheduler, such as 'tcp://10.0.0.1:8786'.
        jobs: calls at a time; 0: as many as the workers have threads.
        out: folder of the results, which all workers share.
        say: called with a line about the cluster.

    Raises:
        InputError: if nobody answers, or the workers cannot make the calls.
    """
    on = f"--on dask:{address}"
    with extra("distributed", on):
        from distributed import Client
    with quiet(logging.CRITICAL):
        _check_scheduler(address, on)
        with Client(address, set_as_default=False) as client, shared(out) as terms:
            yield from serving(DaskEngine(client, terms, jobs or math.inf), client, on, say)


def serving(
    engine: DaskEngine, client: Any, on: str, say: Callable[[str], None]
) -> Iterator[DaskEngine]:
    """Say what there is, yield the engine, and stop its calls if an exception ends the work."""
    threads = sum(client.nthreads().values())
    say(f"{on}: {threads} runs at a time so far, dashboard {client.dashboard_link}")
    try:
        yield engine
    except BaseException:
        engine.stop()
        raise


def _check_scheduler(address: str, on: str) -> None:
    """Check that a scheduler answers at an address.

    Raises:
        InputError: if none does.
    """
    with extra("distributed", on):
        from dask import config
        from dask.utils import parse_timedelta

    seconds = parse_timedelta(config.get("distributed.comm.timeouts.connect"))
    try:
        found = asyncio.run(asyncio.wait_for(_identity(address), seconds))
    except OSError as error:
        raise InputError(
            f"{on}: no dask scheduler has answered within {seconds:g} s: start one with "
            "`dask scheduler`, or check the address"
        ) from error
    except Exception as error:  # of the many kinds that a wrong address raises
        raise InputError(f"{on}: is no address of a dask scheduler ({reason(error)})") from error
    if found.get("type") != "Scheduler":
        raise InputError(f"{on}: is a {found.get('type')}, and no dask scheduler")


async def _identity(address: str) -> dict[str, Any]:
    """Ask what is at an address to identify itself."""
    with extra("distributed", address):
        from distributed import Security, rpc

    arguments = Security().get_connection_args("client")
    async with rpc(address, connection_args=arguments) as there:
        found: dict[str, Any] = await there.identity()
    return found


@contextmanager
def shared(out: Path) -> Iterator[Terms]:
    """Write a file by which workers see that they share the folder of the results."""
    content, file = uuid4().hex, out / ".shared"
    write_atomically(file, content.encode())
    try:
        yield Terms(version("noisynets"), os.getcwd(), str(file), content)
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def quiet(level: int) -> Iterator[None]:
    """Let dask say only what is above a level: errors are one line, which is ours."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, former in zip(loggers, before, strict=True):
            logger.setLevel(former)


def _outcome(sent: Any, name: str) -> Any:
    """Return the result of a task, or an exception that says in one line why there is none."""
    with extra("distributed", name):
        from distributed import KilledWorker

    if sent.status == "cancelled":
        return InputError(f"{name}: the connection to the scheduler was lost: {AGREED}")
    try:
        return pickle.loads(sent.result())
    except (Lost, KilledWorker) as error:
        why = f"possibly for lack of memory ({reason(error)})"
        return InputError(f"{name}: its processes were killed again and again, {why}: {AGREED}")
    except Exception as error:
        return InputError(f"{name}: no worker could make it ({reason(error)}): {AGREED}")


def _unfinished(keys: list[str], dask_worker: Any) -> bool:
    """Return True if a worker still carries out one of these tasks."""
    tasks = [dask_worker.state.tasks.get(key) for key in keys]
    return any(task is not None and task.state in ("cancelled", "executing") for task in tasks)
