"""A box in another process, reached through pipes, and restarted if it fails."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from noisynets.core.errors import BoxFailed
from noisynets.core.notes import users_level
from noisynets.core.reading import reason
from noisynets.systems.blackbox import frames
from noisynets.systems.blackbox.child import Child, ChildFailed, printable
from noisynets.systems.blackbox.contract import Array, Layer, Measured, Reading, Weights
from noisynets.systems.blackbox.readings import checked, checked_layers, checked_rows
from noisynets.systems.blackbox.serve import request

TIMEOUT = 60.0
"""Seconds for an answer."""
GREETING = 2**20
"""Bytes of a first message, at most."""
NUMBER, MORE = 16, 2**20
"""Bytes of an answer, at most: for each number, and for everything else."""

T = TypeVar("T")


class Greeting(NamedTuple):
    """The first message of a process.

    Attributes:
        layers: of the box.
        rows: that it takes at a time, at most; None: any number.
    """

    layers: list[Layer]
    rows: int | None


class ProcessBox:
    """Runs a command as a box, with the messages of docs/how-to/blackbox.md; see also `serve`.

    If the process ends, does not answer in time, or sends an answer that breaks the contract, it
    is killed with all the processes that it has started, it is started again, and the trial is
    repeated. A simulator that seeds its noise with the trial number then gives the same bits as
    without a failure. When training ends, its standard input is closed; after a second it is
    killed. Requires Linux or macOS.

    Args:
        command: the program and its arguments.
        timeout: seconds for each answer, including the first message after the start.
        retries: repetitions of one trial before `BoxFailed` is raised.

    Attributes:
        layers: of the box.
        rows: that it takes at a time, at most; None: any number.

    Raises:
        BoxFailed: if the process cannot be started, or its first message does not list its layers.

    >>> import sys
    >>> code = "from noisynets.systems.blackbox import NumpyChip, serve; serve(NumpyChip((3, 2)))"
    >>> box = ProcessBox([sys.executable, "-c", code])
    >>> box.layers
    [Layer(inputs=3, outputs=2)]
    >>> box.close()
    """

    def __init__(
        self, command: Sequence[str], *, timeout: float = TIMEOUT, retries: int = 3
    ) -> None:
        self.command, self.timeout, self.retries = list(command), timeout, retries
        self._child: Child | None = None
        self._warned = False
        self.layers: list[Layer] = []
        self.rows: int | None = None
        self.layers, self.rows = self._with_restarts(lambda child: self._greeting, str(self))

    def run(self, weights: Sequence[Weights], x: Array, trial: int) -> Reading:
        """Run one trial in the process; see `Box`."""
        message = frames.pack(request(list(weights), x, trial))
        widths = sum(n + m for n, m in self.layers) + self.layers[-1].outputs
        limit = NUMBER * len(x) * widths + MORE
        where = f"trial {trial} of {self}"

        def ask(child: Child) -> Reading:
            self._refuse_surplus(child)
            answer = _unpacked(child.exchange(message, self.timeout, limit), limit)
            return self._reading(answer, trial, len(x), where)

        return self._with_restarts(ask, where)

    @property
    def pid(self) -> int | None:
        """Identifier of the running process; None if none is running."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the process; the next trial starts a new one."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _with_restarts(self, use: Callable[[Child], T], where: str) -> T:
        """Use the process, restarting it up to `retries` times."""
        for attempt in range(1, self.retries + 2):
            try:
                return use(self._running())
            except ChildFailed as error:
                words = self._kill()
                if attempt > self.retries:
                    tries = f" ({attempt} times)" if attempt > 1 else ""
                    raise BoxFailed(f"{where}: {error}{tries}{words}") from error
            except BoxFailed:
                raise
            except BaseException:  # Ctrl-C while it answers: the rest of the answer is lost
                self._kill()
                raise
        raise AssertionError("the last attempt returns or raises")

    def _running(self) -> Child:
        if self._child is None or self._child.forked:
            try:
                self._child = Child(self.command)
            except (OSError, ValueError) as error:
                raise BoxFailed(f"{self}: cannot be started ({reason(error)})") from error
            first = _unpacked(self._child.exchange((), self.timeout, GREETING), GREETING)
            self._greeting = _greeting(first)
            if self.layers and self._greeting.layers != self.layers:
                raise ChildFailed("its layers are not those of its first start")
        return self._child

    def _kill(self) -> str:
        """Kill the process; return its last words, as the end of an error message."""
        if self._child is None:
            return ""
        words = self._child.kill()
        self._child = None
        return f"; stderr: {words}" if words else ""

    def _refuse_surplus(self, child: Child) -> None:
        """Refuse a process that has sent what was not asked for: its answers may be one behind."""
        surplus = child.waiting()
        if not surplus:
            return
        if not (child.names_trials or self._warned):
            self._warned = True
            warnings.warn(
                f"{self} sent {surplus} bytes that no request asked for, and is restarted; an "
                "earlier trial may have got another's answer: let every answer name its trial",
                stacklevel=users_level(),
            )
        raise ChildFailed(f"sent {surplus} bytes that no request asked for")

    def _reading(self, answer: dict[str, Any], trial: int, rows: int, where: str) -> Reading:
        assert self._child is not None
        if "trial" in answer:
            self._child.names_trials = True
            if not np.array_equal(np.ravel(answer["trial"]), [trial]):
                raise ChildFailed(f"its answer is that of trial {printable(str(answer['trial']))}")
        if "error" in answer:
            raise BoxFailed(f"{where}: {printable(str(answer['error']))}")
        try:
            layers = [
                Measured(answer[f"inputs{i}"], answer[f"activities{i}"])
                for i in range(len(self.layers))
            ]
            return checked(self.layers, rows, Reading(layers, answer.get("output")))
        except KeyError as error:
            raise ChildFailed(f"its answer has no {error}") from error
        except BoxFailed as error:
            raise ChildFailed(str(error)) from error

    def __str__(self) -> str:
        return f"box {shlex.join(self.command)!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}  # a copy starts a process of its own


def words(command: str) -> list[str]:
    """Split a command line into program and arguments, as a shell does.

    Raises:
        BoxFailed: if it is empty, or a quotation in it does not end.

    >>> words("python 'my box.py'")
    ['python', 'my box.py']
    """
    try:
        found = shlex.split(command)
    except ValueError as error:
        raise BoxFailed(f"box {command!r}: cannot be read ({reason(error)})") from error
    if not found:
        raise BoxFailed(f"box {command!r}: is empty: give the command that serves it")
    return found


def _greeting(message: dict[str, Any]) -> Greeting:
    if "layers" not in message:
        raise ChildFailed("its first message has no array 'layers'")
    try:
        return Greeting(checked_layers(message["layers"]), checked_rows(message.get("rows")))
    except BoxFailed as error:
        raise ChildFailed(f"its first message: {error}") from error


def _unpacked(body: bytes, limit: int) -> dict[str, Any]:
    try:
        return frames.unpack(body, limit)
    except ValueError as error:
        raise ChildFailed(str(error)) from error
