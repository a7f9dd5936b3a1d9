"""Calls on a worker of a dask cluster, each in a process of its own.

The process is ended by SIGTERM, so that a run saves its checkpoint, when nobody waits for the
result any more or the worker closes; the operating system closes its standard input, which ends it
too, when the worker is killed.

A worker imports this module, and neither torch nor the rest of the package.
"""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.run.signals import PATIENCE

TURN = 0.2
"""Seconds between two looks at a process."""
CLOSING = frozenset({"closing_gracefully", "closing", "closed", "failed"})
"""States in which a worker ends."""


class Lost(RuntimeError):
    """A process ended without an outcome: killed, possibly for lack of memory."""


@dataclass(frozen=True)
class Terms:
    """What a worker must have in common with the program that sends calls.

    Attributes:
        version: of noisynets.
        directory: in which the program was started; used where the worker has it.
        file: in the shared folder, relative to the directory or absolute.
        content: of the file.
    """

    version: str
    directory: str
    file: str
    content: str

    def refusal(self) -> str:
        """Return why this machine cannot make the calls; '' if it can.

        >>> Terms("0.1", "/", "absent", "").refusal()  # doctest: +ELLIPSIS
        'has noisynets ..., and this program 0.1: install the same version'
        """
        here = version("noisynets")
        if here != self.version:
            return (
                f"has noisynets {here}, and this program {self.version}: install the same version"
            )
        file = Path(self.place() or ".", self.file)
        try:
            found = file.read_text(encoding="utf-8") == self.content
        except OSError:
            found = False
        if found:
            return ""
        return f"does not share the folder {file.parent}: choose another --out, which all see"

    def place(self) -> str | None:
        """Return the working directory of a call; None: that of the worker."""
        return self.directory if os.path.isdir(self.directory) else None


def called(call: bytes, terms: Terms) -> bytes:
    """Make a call in a process of its own, as a task on a worker.

    Args:
        call: pickled (function, argument).
        terms: on which it may be made here.

    Returns:
        The pickled result, or the pickled exception of the call.

    Raises:
        Lost: if the process was killed.
        Reschedule: if the worker closes first.
    """
    with extra("distributed", "a worker"):
        from distributed import Reschedule, get_worker
    worker = get_worker()
    key = worker.get_current_task()
    reason = terms.refusal()
    if reason:
        return pickle.dumps(InputError(f"worker {worker.address} on {platform.node()} {reason}"))
    with tempfile.TemporaryFile() as answer, _process(answer, terms.place()) as process:
        try:
            _send(process, call)
            while _running(process):
                if _unwanted(worker, key):
                    raise Reschedule
        finally:
            _end(process)
        if process.returncode:
            raise Lost(f"on {platform.node()}, {_ended(process.returncode)}")
        answer.seek(0)
        return answer.read()


def _process(answer: Any, place: str | None) -> subprocess.Popen[bytes]:
    """Start a process that imports modules from where this one does."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "noisynets.run.alone"],
        stdin=subprocess.PIPE,
        stdout=answer,
        cwd=place,
        env=os.environ | {"PYTHONPATH": paths},
    )


def _send(process: subprocess.Popen[bytes], call: bytes) -> None:
    """Write a call to the standard input of a process, and leave it open."""
    assert process.stdin is not None
    try:
        process.stdin.write(call)
        process.stdin.flush()
    except BrokenPipeError:
        pass  # its exit code says more


def _running(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a short time; return True if the process has not ended by then."""
    try:
        process.wait(TURN)
    except subprocess.TimeoutExpired:
        return True
    return False


def _unwanted(worker: Any, key: Any) -> bool:
    """Return True if nobody waits for a task any more, or its worker ends."""
    task = worker.state.tasks.get(key)
    return worker.status.name in CLOSING or task is None or task.state == "cancelled"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, with time to save."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _ended(code: int) -> str:
    """Say how a process ended.

    >>> _ended(-9), _ended(143)
    ('by signal 9', 'with exit code 143')
    """
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"
