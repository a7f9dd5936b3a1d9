"""The errors a user meets: one line each that names what, where and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class NoisynetsError(Exception):
    """Base of the library's own errors; the command line prints it as one line.

    Attributes:
        exit_code: status with which the command line ends.
    """

    exit_code = 1


class InputError(NoisynetsError, ValueError):
    """Something that the user gave cannot be used: a setting, a file, a name (exit code 2)."""

    exit_code = 2


class SystemRefused(InputError):
    """The system cannot be trained correctly as it stands (exit code 2)."""


class BoxFailed(InputError):
    """A box did not do what the contract says, or stopped (exit code 2)."""


class Diverged(NoisynetsError):
    """Training left the numbers that mean anything (exit code 3)."""

    exit_code = 3


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Say that `name` is no known `kind`, and which name is nearest.

    >>> print(unknown("rule", "amp", ["np", "anp", "inp"]))
    unknown rule 'amp': did you mean 'anp'? Known: anp, inp, np
    """
    names = sorted(known)
    lower = {known.lower(): known for known in names}
    nearest = get_close_matches(name.lower(), lower, n=1, cutoff=0.3)
    hint = f"did you mean {lower[nearest[0]]!r}? " if nearest else ""
    return InputError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")
