"""A box in another process, reached through pipes, and restarted if it fails."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TimedOut
from typing import IO, Any

from noisynets.core.errors import BoxFailed
from noisynets.systems.blackbox import frames
from noisynets.systems.blackbox.contract import Array, Layer, Measured, Reading, Weights
from noisynets.systems.blackbox.serve import request


class ProcessBox:
    """Runs a command as a box, with the messages of docs/how-to/blackbox.md; see also `serve`.

    If the process ends or does not answer in time, it is restarted and the trial is repeated. A
    simulator that seeds its noise with the trial number then gives the same bits as without a
    failure.

    Args:
        command: the program and its arguments.
        timeout: seconds for each answer, including the first message after the start.
        retries: repetitions of one trial before `BoxFailed` is raised.

    Raises:
        BoxFailed: if the process cannot be started, or its first message does not list its layers.

    >>> import sys
    >>> code = "from noisynets.systems.blackbox import NumpyChip, serve; serve(NumpyChip((3, 2)))"
    >>> box = ProcessBox([sys.executable, "-c", code])
    >>> box.layers
    [Layer(inputs=3, outputs=2)]
    >>> box.close()
    """

    def __init__(self, command: Sequence[str], *, timeout: float = 60.0, retries: int = 3) -> None:
        self.command, self.timeout, self.retries = list(command), timeout, retries
        self._process: _Process | None = None
        greeting = self._with_restarts(lambda process: process.greeting)
        if "layers" not in greeting:
            raise BoxFailed(f"{self}: its first message has no array 'layers'")
        self.layers = [Layer(int(n), int(m)) for n, m in greeting["layers"]]

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Run one trial in the process; see `Box`."""
        answer = self._with_restarts(
            lambda process: process.ask(request(list(weights), x, trial), self.timeout)
        )
        if "error" in answer:
            raise BoxFailed(f"trial {trial} of {self}: {answer['error']}")
        try:
            layers = [
                Measured(answer[f"inputs{i}"], answer[f"activities{i}"])
                for i in range(len(self.layers))
            ]
        except KeyError as error:
            raise BoxFailed(f"trial {trial} of {self}: its answer has no {error}") from error
        return Reading(layers, answer.get("output"))

    @property
    def pid(self) -> int | None:
        """Identifier of the running process; None if none is running."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process; the next trial starts a new one."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _with_restarts(self, answer: Callable[[_Process], dict[str, Any]]) -> dict[str, Any]:
        """Return an answer of the process, restarting it up to `retries` times."""
        for attempt in range(self.retries + 1):
            try:
                return answer(self._running())
            except _ProcessFailed as error:
                words = "" if self._process is None else self._process.last_error_line()
                self.close()
                if attempt == self.retries:
                    tries = f" ({attempt + 1} times)" if attempt else ""
                    raise BoxFailed(f"{self}: {error}{tries}{words}") from error
        raise AssertionError("the last attempt returns or raises")

    def _running(self) -> _Process:
        if self._process is None:
            self._process = _Process(self.command)
            self._process.greeting = self._process.ask(None, self.timeout)
        return self._process

    def __str__(self) -> str:
        return f"box {shlex.join(self.command)!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}  # a copy starts a process of its own


class _ProcessFailed(Exception):
    """The process ended, did not answer in time, or sent bytes that are not a message."""


class _Process:
    """One running process.

    Attributes:
        greeting: its first message.
    """

    greeting: dict[str, Any]

    def __init__(self, command: list[str]) -> None:
        self._stderr = tempfile.TemporaryFile()
        try:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise BoxFailed(f"box {shlex.join(command)!r}: cannot be started ({error})") from error
        self._reader = ThreadPoolExecutor(1)
        self._end = weakref.finalize(self, _end, self._popen, self._reader, self._stderr)

    def ask(self, message: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
        """Send a message, if any, and return the next message of the process."""
        future = self._reader.submit(self._exchange, message)
        try:
            answer = future.result(timeout)
        except TimedOut as error:
            raise _ProcessFailed(f"no answer in {timeout:g} s") from error
        except OSError as error:
            raise _ProcessFailed(f"ended{self._status()}") from error
        except ValueError as error:
            raise _ProcessFailed(f"its answer cannot be read: {error}") from error
        if answer is None:
            raise _ProcessFailed(f"ended{self._status()}")
        return answer

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _exchange(self, message: dict[str, Any] | None) -> dict[str, Any] | None:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        if message is not None:
            frames.write(self._popen.stdin, message)  # type: ignore[arg-type]
        return frames.read(self._popen.stdout)  # type: ignore[arg-type]

    def _status(self) -> str:
        try:
            return f" with status {self._popen.wait(1)}"
        except subprocess.TimeoutExpired:
            return ""

    def last_error_line(self) -> str:
        """Return the last line of the standard error, as the end of an error message."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"; stderr: {lines[-1]}" if lines else ""

    def close(self) -> None:
        self._end()


def _end(popen: subprocess.Popen[bytes], reader: ThreadPoolExecutor, stderr: IO[bytes]) -> None:
    popen.kill()
    popen.wait()
    reader.shutdown(wait=True)
    for stream in (popen.stdin, popen.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:  # unwritten data cannot be delivered: the process has ended
                pass
    stderr.close()
