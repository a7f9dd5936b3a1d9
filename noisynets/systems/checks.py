"""Range checks of numeric settings."""

from __future__ import annotations

import math

from noisynets.core.errors import InputError


def finite(**values: float) -> None:
    """Raise `InputError` if a setting is not finite.

    >>> finite(mean=float("nan"))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: mean nan must be finite
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"{name} {value:g} must be finite")


def not_negative(**values: float) -> None:
    """Raise `InputError` if a setting is negative or not finite.

    >>> not_negative(sigma=-1)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: sigma -1 must be finite and not negative
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name} {value:g} must be finite and not negative")


def positive(**values: float) -> None:
    """Raise `InputError` if a setting is not positive or not finite.

    >>> positive(g_max=0)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: g_max 0 must be positive and finite
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value:g} must be positive and finite")


def probability(**values: float) -> None:
    """Raise `InputError` if a setting is not between 0 and 1.

    >>> probability(release=1.5)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: release 1.5 must be a probability, from 0 to 1
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} {value:g} must be a probability, from 0 to 1")


def at_least_one(**values: float) -> None:
    """Raise `InputError` if a setting is no whole number of at least 1.

    >>> at_least_one(every=0.5)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: every 0.5 must be a whole number of at least 1
    """
    for name, value in values.items():
        if not (1 <= value < math.inf and value == int(value)):
            raise InputError(f"{name} {value:g} must be a whole number of at least 1")
