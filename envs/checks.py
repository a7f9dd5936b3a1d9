"""Checks of settings; each error states in one line the value found and the values allowed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .types import Values


def not_negative(owner: object, **values: Values) -> None:
    """Raise ValueError for settings that are below zero or not finite.

    >>> not_negative("Gaussian", sigma=-1)
    Traceback (most recent call last):
    ...
    ValueError: Gaussian: sigma -1 must be finite and at least 0
    """
    _all(owner, "be finite and at least 0", lambda x: np.isfinite(x) & (x >= 0), values)


def positive(owner: object, **values: Values) -> None:
    """Raise ValueError for settings that are not above zero or not finite.

    >>> positive("OrnsteinUhlenbeck", tau=0)
    Traceback (most recent call last):
    ...
    ValueError: OrnsteinUhlenbeck: tau 0 must be finite and above 0
    """
    _all(owner, "be finite and above 0", lambda x: np.isfinite(x) & (x > 0), values)


def probability(owner: object, **values: Values) -> None:
    """Raise ValueError for settings that are not probabilities.

    >>> probability("Dropout", p=1.5)
    Traceback (most recent call last):
    ...
    ValueError: Dropout: p 1.5 must be a probability, from 0 to 1
    """
    _all(owner, "be a probability, from 0 to 1", lambda x: (x >= 0) & (x <= 1), values)


def whole(owner: object, *, least: int, **values: int) -> None:
    """Raise ValueError for settings that are not whole numbers or below `least`.

    >>> whole("Delay", least=0, steps=-1)
    Traceback (most recent call last):
    ...
    ValueError: Delay: steps -1 must be a whole number, at least 0
    """
    for name, value in values.items():
        number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not number or value < least:
            raise ValueError(
                f"{title(owner)}: {name} {value!r} must be a whole number, at least {least}"
            )


def _all(owner: object, must: str, test: Any, values: dict[str, Values]) -> None:
    """Raise ValueError for a setting that fails a test; `must` is the rest of the message."""
    for name, value in values.items():
        try:
            numbers = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        if not np.all(test(numbers)):
            raise ValueError(f"{title(owner)}: {name} {value} must {must}")


def title(owner: object) -> str:
    """Return the name of an object in error messages: its class, or the string itself."""
    return owner if isinstance(owner, str) else type(owner).__name__
