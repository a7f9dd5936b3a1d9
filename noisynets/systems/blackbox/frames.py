"""Messages through pipes: a length of 8 bytes (little-endian), followed by an .npz file."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from noisynets.core.arrays import read_npz
from noisynets.core.reading import amount

LENGTH = struct.Struct("<Q")
LONGEST = 2**36
"""Bytes of any message, at most."""


def pack(arrays: Mapping[str, Any]) -> tuple[bytes, memoryview]:
    """Return the two parts of a message."""
    body = io.BytesIO()
    np.savez(body, **arrays)
    return LENGTH.pack(body.getbuffer().nbytes), body.getbuffer()


def length(head: bytes, limit: int = LONGEST) -> int:
    """Return the length that a message's first part announces.

    Raises:
        ValueError: if it is no length that a message can have.

    >>> length(pack({})[0])
    22
    >>> length(b"hello th", limit=1000)
    Traceback (most recent call last):
    ...
    ValueError: b'hello th' is not the length of a message of at most 1000 bytes
    """
    (found,) = LENGTH.unpack(head)
    if not 0 < found <= limit:
        raise ValueError(f"{head!r} is not the length of a message of at most {amount(limit)}")
    return int(found)


def unpack(body: bytes, limit: int = LONGEST) -> dict[str, Any]:
    """Return the arrays of a message, which hold numbers or texts.

    Args:
        body: the second part of a message.
        limit: bytes of all arrays together, at most.

    Raises:
        ValueError: for bytes that are not a message, or claim more bytes than the limit.
    """
    return read_npz(body, limit=limit, what="its message", advice="correct the box")


def write(stream: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write one message.

    >>> stream = io.BytesIO()
    >>> write(stream, {"x": np.ones(2)})
    >>> _ = stream.seek(0)
    >>> read(stream)
    {'x': array([1., 1.])}
    """
    for part in pack(arrays):
        stream.write(part)
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Read one message; return None if the stream ends before it is complete.

    Raises:
        ValueError: for bytes that are not a message.
    """
    head = stream.read(LENGTH.size)
    size = length(head) if len(head) == LENGTH.size else 0
    body = stream.read(size)
    return unpack(body) if size and len(body) == size else None
