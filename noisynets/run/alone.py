"""One call in a process of its own, for a parent that waits for the outcome.

`python -m noisynets.run.alone` reads a pickled (function, argument) from standard input and writes
the pickled result, or the exception, to standard output. It ends when its standard input is closed,
also because the parent was killed. SIGTERM ends it; training saves a checkpoint first.

Imports the standard library alone, so that it handles signals before it imports more.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from typing import Any


def main() -> None:
    """Make the call that standard input describes, and write its outcome to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent decides
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what the call prints is no answer
        outcome = _outcome()
        try:
            answers.write(pickle.dumps(outcome))
        except Exception:  # of the many kinds that pickle raises
            answers.write(pickle.dumps(RuntimeError(repr(outcome))))


def _outcome() -> Any:
    """Read the call, make it, and return its result or its exception."""
    try:
        work, item = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
        return work(item)
    except Exception as error:
        error.add_note(traceback.format_exc())
        return error


def _end_with_the_parent() -> None:
    """End this process once its standard input is closed."""
    os.read(0, 1)  # without the lock of sys.stdin, for which the end of the program would wait
    os._exit(1)


if __name__ == "__main__":
    main()
