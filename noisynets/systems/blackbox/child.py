"""The process of a box: pipes with deadlines, and an end that leaves none of its processes.

The process leads a session of its own, so that the processes which it starts can be killed with it.
A guard, a shell that waits beside it, kills them if the trainer itself is killed.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import IO

from noisynets.core.errors import InputError
from noisynets.core.reading import reason
from noisynets.systems.blackbox import frames

GRACE = 1.0
"""Seconds for a process to end by itself, after its standard input is closed."""
KEPT = 2**14
"""Bytes of the standard error that are kept: the last ones."""
WAIT = 60.0
"""Seconds that a selector waits at a time: it takes no numbers of any size."""
PIECE = 2**20
"""Bytes that a pipe holds, where the system allows it, and that are read or written at a time."""


GUARD = 'read -r line; sleep 1; kill -9 "-$1"'
"""Shell script that kills a group when its standard input ends: when the trainer has ended."""


class ChildFailed(Exception):
    """A process ended, did not answer in time, or sent what is no answer."""


class Child:
    """A running process in a session of its own, so that all its processes can be killed.

    Args:
        command: the program and its arguments.

    Attributes:
        pid: identifier of the process, and of its group.
        names_trials: set to True once an answer has named its trial.

    Raises:
        OSError: if it cannot be started.
        ValueError: for a command that no system can start.
    """

    def __init__(self, command: list[str]) -> None:
        if os.name != "posix":
            raise InputError("a box behind pipes needs Linux or macOS")
        self._popen = popen = subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert popen.stdin is not None and popen.stdout is not None and popen.stderr is not None
        self._stdin, self._stdout = popen.stdin.fileno(), popen.stdout.fileno()
        for stream in (self._stdin, self._stdout):
            os.set_blocking(stream, False)
            _widen(stream)
        self._stderr = Tail(popen.stderr)
        self._owner = os.getpid()
        guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(popen.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pair = popen, guard
        self._end = weakref.finalize(self, _end, self._pair, self._stderr, self._owner, GRACE)
        self.pid = popen.pid
        self.names_trials = False

    @property
    def forked(self) -> bool:
        """True in a process that was forked from the one which started this child."""
        return os.getpid() != self._owner

    def waiting(self) -> int:
        """Return the number of bytes that it has sent and no request asked for, up to a `PIECE`."""
        try:
            return len(os.read(self._stdout, PIECE))
        except BlockingIOError:
            return 0

    def exchange(self, message: Sequence[bytes | memoryview], timeout: float, limit: int) -> bytes:
        """Send a message, and return the next one of the process, without its length.

        Args:
            message: its parts; empty: send nothing.
            timeout: seconds for all of it.
            limit: bytes of the answer, at most.

        Raises:
            ChildFailed: if there is no whole answer in time.
        """
        deadline = time.monotonic() + timeout
        unsent = [memoryview(part) for part in message]
        head, body = _Part(frames.LENGTH.size), None
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            if unsent:
                selector.register(self._stdin, selectors.EVENT_WRITE)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ChildFailed(f"no answer in {timeout:g} s (longer: --box-timeout)")
                for key, _ in selector.select(min(left, WAIT)):
                    if key.fd == self._stdin:
                        self._send(unsent)
                        if not unsent:
                            selector.unregister(self._stdin)
                        continue
                    self._receive(body or head)
                    if body is None and not head.left:
                        body = _Part(self._length(head, limit))
                    elif body is not None and not body.left:
                        selector.unregister(self._stdout)
        assert body is not None
        return bytes(body.content)

    def close(self) -> None:
        """Close its standard input, and kill what is left of it after a second."""
        self._end()

    def kill(self) -> str:
        """Kill it and all its processes; return the last line of its standard error."""
        if self._end.detach() is not None:
            _end(self._pair, self._stderr, self._owner, 0.0)
        return self._stderr.last_line()

    def _length(self, head: _Part, limit: int) -> int:
        try:
            return frames.length(bytes(head.content), limit)
        except ValueError as error:
            raise ChildFailed(f"its answer cannot be read: {error}") from error

    def _receive(self, part: _Part) -> None:
        try:
            if not part.receive(self._stdout):
                raise ChildFailed(self._ended("output"))
        except BlockingIOError:
            pass

    def _send(self, unsent: list[memoryview]) -> None:
        try:
            sent = os.write(self._stdin, unsent[0])
        except BlockingIOError:
            return
        except OSError as error:
            raise ChildFailed(self._ended("input")) from error
        unsent[0] = unsent[0][sent:]
        if not unsent[0]:
            unsent.pop(0)

    def _ended(self, stream: str) -> str:
        try:
            return f"ended with status {self._popen.wait(GRACE)}"
        except subprocess.TimeoutExpired:
            return f"closed its standard {stream}"


class _Part:
    """Bytes of a message that arrive in pieces, and no more of them.

    Args:
        size: their number.
    """

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.left = memoryview(self.content)

    def receive(self, pipe: int) -> int:
        """Read what is there; return the number of bytes, 0 at the end of the stream."""
        read = os.readv(pipe, [self.left])
        self.left = self.left[read:]
        return read


class Tail:
    """The last bytes of a stream, read by a thread so that its writer never waits.

    Args:
        stream: to read.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, bytearray()
        self._woken, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading, half a second after the process has ended at the latest."""
        self._thread.join(GRACE / 2)  # until the end of the stream, unless a process still has it
        os.close(self._wake)
        self._thread.join()
        os.close(self._woken)
        self._stream.close()

    def last_line(self) -> str:
        """Return the last line that is not empty, as printable text."""
        lines = self._kept.decode(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else ""

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for fd in (self._stream.fileno(), self._woken):
                selector.register(fd, selectors.EVENT_READ)
            while self._woken not in {key.fd for key, _ in selector.select()}:
                try:
                    piece = os.read(self._stream.fileno(), PIECE)
                except MemoryError:  # nothing more is read: a box that still writes has to wait
                    return
                if not piece:
                    return
                self._kept += piece
                del self._kept[:-KEPT]


def _widen(pipe: int) -> None:
    """Let a pipe hold a whole `PIECE`, so that the processes wait for each other less often."""
    if sys.platform == "linux":
        import fcntl  # not on Windows

        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIECE)
        except OSError:  # the user's pipes hold as much as they may
            pass


def printable(text: str) -> str:
    r"""Return a text of a box on one line, without control characters, shortened.

    >>> printable("too\nhot\x1b[2J")
    'too hot [2J'
    """
    return reason(ValueError("".join(c if c.isprintable() else " " for c in text) or "nothing"))


def _end(
    processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]],
    stderr: Tail,
    owner: int,
    grace: float,
) -> None:
    """End a process and its group, and then its guard, if this process started them."""
    if os.getpid() != owner:
        return
    popen, guard = processes
    try:
        _close(popen.stdin)
        if grace:
            popen.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    finally:
        try:
            os.killpg(popen.pid, signal.SIGKILL)
        except OSError:  # there is no process left in the group
            pass
        guard.kill()
        for process in processes:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:  # a driver holds it: the system ends it later
                pass
        _close(popen.stdout)
        _close(guard.stdin)
        stderr.close()


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
