"""SIGINT and SIGTERM: they end a program in one line, and never in the middle of a save.

Imports the standard library alone, so that a program can handle signals before it imports more.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)
ALARM: signal.Signals | None = getattr(signal, "SIGALRM", None)  # not on Windows
PATIENCE = 5.0
"""Seconds after which an interruption is carried out, whatever is going on."""

Handler = Callable[[int, FrameType | None], Any]


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM has come.

    Attributes:
        exit_code: 130 or 143, by the custom of shells.

    >>> str(Interrupted(signal.SIGTERM)), Interrupted(signal.SIGINT).exit_code
    ('terminated', 130)
    """

    def __init__(self, number: int) -> None:
        super().__init__("terminated" if number == signal.SIGTERM else "interrupted")
        self.exit_code = 128 + number


class Program:
    """Handles the signals of a program from its first line to its last.

    A signal ends the process at once, while nothing can be lost (modules are imported). After
    `begin`, the first one raises `Interrupted`, so that files and processes are closed; a second
    one, or the same after `PATIENCE`, ends the process at once. After `end`, a signal ends it with
    the exit code that it has anyway.

    Signals that are ignored when the program starts, as in a script's background, stay ignored.

    Args:
        name: begins the line on standard error.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._came: int | None = None
        self._code: int | None = None
        self._raises = False
        self._before: dict[signal.Signals, Any] = {}

    def start(self) -> None:
        """Handle the signals from now on; does nothing outside the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in ENDING if ALARM is None else (*ENDING, ALARM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)

    def begin(self) -> None:
        """Raise `Interrupted` at the next signal, instead of ending the process."""
        self._raises = True

    def end(self, code: int) -> None:
        """Let signals change nothing any more but the moment at which the process ends."""
        self._code = code
        _alarm_in(0)

    def restore(self) -> None:
        """Give the signals back to the handlers that they had before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def came(self) -> Interrupted | None:
        """The interruption that has come, also where its exception was lost."""
        return None if self._came is None else Interrupted(self._came)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None:
            os._exit(self._code)
        first = self._came is None
        self._came = self._came or number
        error = Interrupted(self._came)
        if first and self._raises:
            _alarm_in(PATIENCE)
            raise error
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, self._line(error))
        os._exit(error.exit_code)

    def _line(self, error: Interrupted) -> bytes:
        return f"{self._name}: {error}\n".encode()


def _alarm_in(seconds: float) -> None:
    if ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)


@contextmanager
def _handled_by(handler: Handler) -> Iterator[tuple[int, ...]]:
    """Replace the handlers of signals that have one in Python; yield these signals."""
    numbers = ENDING if ALARM is None else (*ENDING, ALARM)
    main = threading.current_thread() is threading.main_thread()
    before = {n: signal.getsignal(n) for n in numbers if main and callable(signal.getsignal(n))}
    try:
        for number in before:
            signal.signal(number, handler)
        yield tuple(before)
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold signals back while something is saved, and let them act afterwards."""
    came: list[int] = []
    try:
        with _handled_by(lambda number, frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


class Deferral:
    """Holds the first signal back until the work is at a point where it can be stopped.

    A second signal is not held back; nor is the first one for longer than `PATIENCE`, in a program
    that handles the alarm.

    Attributes:
        came: the signal that is held back; None: none is.

    >>> from noisynets.run.signals import Deferral
    >>> with Deferral() as signals:
    ...     for step in range(3):
    ...         if signals.came:
    ...             signals.deliver()
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._handlers = ExitStack()
        self._handled: tuple[int, ...] = ()

    def __enter__(self) -> Deferral:
        self._handled = self._handlers.enter_context(_handled_by(self._handle))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.came is not None and kind is None:
            self.deliver()
        self._close()

    def deliver(self) -> None:
        """Let the signal that is held back act, by the handler that was there before."""
        number, self.came = self.came, None
        self._close()
        if number is not None:
            signal.raise_signal(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.came is None and number != ALARM:
            self.came = number
            if ALARM in self._handled:
                _alarm_in(PATIENCE)
        else:
            self.came = self.came or number
            self.deliver()

    def _close(self) -> None:
        if ALARM in self._handled:
            _alarm_in(0)
        self._handlers.close()
        self._handled = ()
