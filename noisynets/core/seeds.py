"""Seeds of random streams: each depends on a given seed and on what the stream is for."""

from __future__ import annotations

import operator
from hashlib import sha256

from noisynets.core.errors import InputError


def salted(seed: int, purpose: str) -> int:
    """Return the seed of a stream: the first 63 bits of the SHA-256 hash of 'seed:purpose'.

    Streams of equal seeds and different purposes are independent.

    Args:
        seed: a whole number.
        purpose: what the stream is for, such as 'injected noise'.

    Raises:
        InputError: if the seed is no whole number.

    >>> salted(0, "injected noise") == salted(0, "injected noise")
    True
    >>> salted(0, "injected noise") == salted(0, "initial weights")
    False
    """
    digest = sha256(f"{whole(seed)}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def whole(seed: int) -> int:
    """Return a seed as an int.

    Raises:
        InputError: if it is no whole number.

    >>> whole(0.5)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: seed 0.5 must be a whole number
    """
    try:
        return operator.index(seed)
    except TypeError as error:
        raise InputError(f"seed {seed!r} must be a whole number") from error
