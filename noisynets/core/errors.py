"""Exceptions with one-line messages that say what is wrong, where, and what to do."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

from noisynets.core.pages import Page, told

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of disks (exit code 1); other errors of the operating system are due to given paths."""

LONGEST = 100
"""Characters of an unknown name that are shown, and compared with known names."""


class NoisynetsError(Exception):
    """Base class of this package's exceptions; the command line prints their message as one line.

    Args:
        message: one line that names what is wrong, where, and what to do.
        page: of the documentation that helps; None: that of the class, if it has one.

    Attributes:
        exit_code: exit status of the command line.
        page: of the documentation, named at the end of the message; None: none.

    >>> print(SystemRefused("rows depend on one another"))
    rows depend on one another (see docs/how-to/rules.md#what-is-refused)
    """

    exit_code = 1
    page: Page | None = None

    def __init__(self, message: object = "", page: Page | None = None) -> None:
        super().__init__(message)
        self.page = page or self.page

    def __str__(self) -> str:
        return told(super().__str__(), self.page)


class InputError(NoisynetsError, ValueError):
    """A setting, file or name given by the user cannot be used (exit code 2)."""

    exit_code = 2


class SystemRefused(InputError):
    """The system, as it is, would be trained incorrectly (exit code 2)."""

    page = Page.REFUSED


class BoxFailed(InputError):
    """A box broke its contract or stopped (exit code 2)."""

    page = Page.BOXES


class Diverged(NoisynetsError):
    """Training produced values that are not finite (exit code 3)."""

    exit_code = 3
    page = Page.ADVICE


def unknown(kind: str, name: str, known: Iterable[str], page: Page | None = None) -> InputError:
    """Return the error for an unknown name, with the most similar known name.

    Args:
        kind: what is named, such as 'rule'.
        name: as given.
        known: all valid names.
        page: of the documentation that explains them; None: none.

    >>> print(unknown("rule", "amp", ["np", "anp", "inp"]))
    unknown rule 'amp': did you mean 'anp'? Known: anp, inp, np
    """
    name = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    names = sorted(known)
    lower = {known.lower(): known for known in names}
    nearest = get_close_matches(name.lower(), lower, n=1, cutoff=0.3)
    hint = f"did you mean {lower[nearest[0]]!r}? " if nearest else ""
    return InputError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}", page)
