"""The command line `noisynets`; it may import every other room.

Exit codes: 1 disk or pipe, 2 bad input, 3 diverged, 130 interrupted, 143 terminated.

Nothing heavy is imported before signals are handled, so that they end the program in one line at
any time.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TextIO

from noisynets.core.errors import DISK, NoisynetsError
from noisynets.run.signals import Program

MEMORY = (
    *("allocate memory", "not enough memory", "out of memory", "Unable to allocate"),
    *("size calculation overflowed", "multiplication overflow"),
)
"""Parts of what PyTorch and NumPy say of sizes that do not fit memory."""
LONG = 4000
"""Characters from which on a message is shortened: of a path without end, say."""


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `noisynets`.

    Args:
        args: words after the program's name; None: those of the process, whose signals are then
            handled until it ends.
    """
    program = Program("noisynets")
    program.start()
    try:
        code = _exit_code(program, sys.argv[1:] if args is None else list(args))
        program.end(code)
    finally:
        if args is not None:
            program.restore()
    if code:
        sys.exit(code)


def _exit_code(program: Program, words: list[str]) -> int:
    """Run a command line, say in one line on standard error why it failed, return the code."""
    try:
        from noisynets.cli.commands import run

        _print_anything()
        program.begin()
        with warnings.catch_warnings():
            warnings.showwarning = _in_one_line
            run(words)
        if sys.stdout is not None:  # as of a program without a console
            sys.stdout.flush()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BrokenPipeError:  # the reader has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        found = _explained(program.came or error)
        if found is None:
            raise
        line, code = found
        _say("; ".join([line, *getattr(error, "__notes__", [])]))
        return code


def _explained(error: BaseException) -> tuple[str, int] | None:
    """Return what an exception means to the user, and the exit code; None: it is a bug."""
    if isinstance(error, NoisynetsError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted", getattr(error, "exit_code", 130)
    words = " ".join(str(error).split())
    if isinstance(error, OSError):
        return words, 1 if error.errno in DISK else 2
    spent = isinstance(error, RuntimeError) and any(part in words for part in MEMORY)
    if spent or isinstance(error, MemoryError):
        return (
            f"not enough memory ({words[:150] or 'for the program'}): make --hidden, --batch-size, "
            "--resamples or --steps smaller",
            2,
        )
    return None


def _say(text: str) -> None:
    """Print one line on standard error, with control characters escaped."""
    short = text if len(text) < LONG else f"{text[: LONG // 2]} ... {text[-LONG // 4 :]}"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)
    print(f"noisynets: {line}", file=sys.stderr)


def _print_anything() -> None:
    """Escape what a terminal cannot show, as paths that are no text, where printing would fail."""
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line; where it was raised is of no use on a command line."""
    print(f"noisynets: warning: {' '.join(str(message).split())}", file=sys.stderr)
