"""Exceptions with one-line messages that say what is wrong, where, and what to do."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of disks (exit code 1); other errors of the operating system are due to given paths."""

LONGEST = 100
"""Characters of an unknown name that are shown, and compared with known names."""


class NoisynetsError(Exception):
    """Base class of this package's exceptions; the command line prints their message as one line.

    Attributes:
        exit_code: exit status of the command line.
    """

    exit_code = 1


class InputError(NoisynetsError, ValueError):
    """A setting, file or name given by the user cannot be used (exit code 2)."""

    exit_code = 2


class SystemRefused(InputError):
    """The system, as it is, would be trained incorrectly (exit code 2)."""


class BoxFailed(InputError):
    """A box broke its contract or stopped (exit code 2)."""


class Diverged(NoisynetsError):
    """Training produced values that are not finite (exit code 3)."""

    exit_code = 3


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name, with the most similar known name.

    Args:
        kind: what is named, such as 'rule'.
        name: as given.
        known: all valid names.

    >>> print(unknown("rule", "amp", ["np", "anp", "inp"]))
    unknown rule 'amp': did you mean 'anp'? Known: anp, inp, np
    """
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    names = sorted(known)
    lower = {known.lower(): known for known in names}
    nearest = get_close_matches(name.lower(), lower, n=1, cutoff=0.3)
    hint = f"did you mean {lower[nearest[0]]!r}? " if nearest else ""
    return InputError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")
