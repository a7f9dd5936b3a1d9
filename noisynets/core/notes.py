"""Notes: what an estimator warns of, each kind once, at the user's line."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from noisynets.core.pages import Page, told

NOT_THE_USERS = ("noisynets", "torch")
"""Packages whose frames are left out in the search for the user's line."""
PAGES = {
    "shared noise": Page.SHARED_NOISE,
    "fixed statistics": Page.BATCH_STATISTICS,
    "unfrozen statistics": Page.BATCH_STATISTICS,
    "learned credit": Page.CREDIT,
    "weight perturbation": Page.PARAMETERS,
    "wear": Page.WEAR,
    "worn devices": Page.WEAR,
}
"""Pages of kinds that have a section of their own."""


@dataclass(frozen=True)
class Note:
    """One warning of an estimator.

    Attributes:
        kind: what it is about: 'flat loss', 'loss does not move', 'equal losses', 'equal outputs',
            'shared noise', 'left-over state', 'quiet nodes', 'unexplained map', 'learned credit',
            'weight perturbation', 'fixed statistics', 'unfrozen statistics', 'wear' or 'worn
            devices'.
        message: one line that says what was found, where, and what to do.
    """

    kind: str
    message: str

    @property
    def page(self) -> Page:
        """Of the documentation, as the warning names it."""
        return PAGES.get(self.kind, Page.WARNINGS)

    def __str__(self) -> str:
        return told(self.message, self.page)


class Notes:
    """The warnings of one estimator or rule, each kind at most once.

    >>> notes = Notes()
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     notes.warn("shared noise", "the noise is shared")
    ...     notes.warn("shared noise", "the noise is shared in another batch")
    >>> len(caught), [str(note) for note in notes]
    (1, ['the noise is shared (see docs/how-to/warnings.md#how-shared-noise-is-found)'])
    """

    def __init__(self) -> None:
        self._notes: dict[str, Note] = {}

    def warn(self, kind: str, message: str) -> None:
        """Warn at the line that called the package, unless this kind was warned of before."""
        if kind not in self._notes:
            self._notes[kind] = Note(kind, message)
            warn(self._notes[kind])

    def __contains__(self, kind: str) -> bool:
        return kind in self._notes

    def __iter__(self) -> Iterator[Note]:
        return iter(self._notes.values())


def warn(note: Note) -> None:
    """Warn at the line that called the package."""
    warnings.warn(str(note), stacklevel=users_level())


def users_level() -> int:
    """Return the `stacklevel` of the innermost frame outside this package and PyTorch.

    It is counted from the caller of this function, as `warnings.warn` counts.
    """
    frame, level = inspect.currentframe(), 0
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in NOT_THE_USERS:
            break
        frame, level = frame.f_back, level + 1
    return max(level, 1)
