"""A lock on a folder: one process at a time writes there."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from noisynets.core.errors import InputError

LOCK = ".lock"
"""Name of the lock file; it contains the holder, and is there only while a process holds it."""

_PROCESS = "process "


class InUse(InputError):
    """Another process holds the lock of a folder (exit code 2)."""


@contextmanager
def locked(folder: Path, name: str = LOCK) -> Iterator[None]:
    """Hold the lock of a folder; the operating system frees it when a process ends, however.

    Args:
        folder: that is written to.
        name: of the lock file in it.

    Raises:
        InUse: if another process holds it.
    """
    path = folder / name
    before = _holder(path)  # read first: earlier versions of filelock empty the file
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        holder = before or _holder(path) or "another process"
        raise InUse(f"{folder}: in use by {holder}: wait until it has ended, or stop it") from error
    try:
        _name_holder(path)
        yield
    finally:
        with suppress(OSError):  # on Windows a locked file cannot be removed
            path.unlink()
        lock.release()


def _name_holder(path: Path) -> None:
    """Write this process into the lock file, unless filelock keeps something of its own there."""
    with suppress(OSError):
        if path.stat().st_size == 0 or _holder(path):
            path.write_text(f"{_PROCESS}{os.getpid()} on {platform.node()}")


def _holder(path: Path) -> str:
    """Return the process that the lock file names; '' if it names none."""
    try:
        text = " ".join(path.read_text(errors="replace")[:200].split())
    except OSError:
        return ""
    return text if text.startswith(_PROCESS) else ""
