"""Messages through pipes: a length of 8 bytes (little-endian), followed by an .npz file."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

LENGTH = struct.Struct("<Q")


def write(stream: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write one message.

    >>> stream = io.BytesIO()
    >>> write(stream, {"x": np.ones(2)})
    >>> _ = stream.seek(0)
    >>> read(stream)
    {'x': array([1., 1.])}
    """
    body = io.BytesIO()
    np.savez(body, **arrays)
    stream.write(LENGTH.pack(body.getbuffer().nbytes))
    stream.write(body.getbuffer())
    stream.flush()


def read(stream: BinaryIO) -> dict[str, Any] | None:
    """Read one message; return None if the stream ends before it is complete.

    Raises:
        ValueError: for bytes that are not a message.
    """
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > 2**36:
        raise ValueError(f"{head!r} is not the length of a message ({length} bytes is too long)")
    body = stream.read(length)
    if len(body) < length:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return dict(arrays)
