"""The command line `noisynets`; it may import every other room.

Exit codes: 1 disk or pipe, 2 bad input, 3 diverged, 130 interrupted.

Nothing heavy is imported before `main` runs, so that an interruption ends in one line at any time.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from noisynets.core.errors import NoisynetsError


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `noisynets`."""
    try:
        from noisynets.cli.commands import run

        with warnings.catch_warnings():
            warnings.showwarning = _in_one_line
            run(sys.argv[1:] if args is None else list(args))
    except NoisynetsError as error:
        print(f"noisynets: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("noisynets: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, say: what was there before is there still
        print(f"noisynets: {error}; then go on with: noisynets resume RUN", file=sys.stderr)
        sys.exit(1)


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
