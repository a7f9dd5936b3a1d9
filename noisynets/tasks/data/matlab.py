"""Guarded reading of one matrix from a MATLAB file, by SciPy."""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.core.reading import amount, read_bytes, unreadable

HEADER = 128
"""Bytes in front of the first variable of a file of version 5."""
COMPRESSED = 15
"""Type of an element that holds another one, deflated."""
BYTE_ORDERS = {b"IM": "little", b"MI": "big"}


def read_matrix(path: Path, name: str, *, limit: int, advice: str) -> NDArray[Any]:
    """Read a matrix of real numbers from a .mat file of version 4, 5, 6 or 7.

    SciPy takes as much memory as a file claims. The file is therefore expanded here first, with a
    bound, and only a matrix whose size fits into the expanded bytes is read.

    Args:
        path: of the file.
        name: of the matrix.
        limit: bytes of the file and of the expanded file, at most.
        advice: what to do, for the error message.

    Raises:
        InputError: if the file is damaged or too large, or there is no such matrix.
    """
    from scipy.io import loadmat, whosmat

    data = read_bytes(path, limit=limit, advice=advice)
    try:
        plain = _expanded(data, limit)
        found = {n: (shape, kind) for n, shape, kind in whosmat(io.BytesIO(plain))}
        if name not in found:
            raise ValueError(f"no matrix {name!r}")
        shape, kind = found[name]
        if kind not in ("double", "single") or len(shape) != 2:
            raise ValueError(f"{name!r} is no matrix of numbers, but {kind} of shape {shape}")
        if math.prod(shape) > len(plain):
            raise ValueError(f"{name!r} claims shape {shape} in {amount(len(plain))}")
        array: NDArray[Any] = loadmat(io.BytesIO(plain), variable_names=[name])[name]
    except NotImplementedError as error:
        raise InputError(f"{path}: is of version 7.3: save it with -v7: {advice}") from error
    except Exception as error:  # SciPy's parsers raise errors of many kinds
        raise unreadable(path, error, advice) from error
    return array


def _expanded(data: bytes, limit: int) -> bytes:
    """Return a file of version 5 without compression; other files as they are."""
    order: Any = BYTE_ORDERS.get(data[HEADER - 2 : HEADER])
    if order is None or 0 in data[:4]:
        return data
    parts, at, left = [data[:HEADER]], HEADER, limit
    while at + 8 <= len(data):
        kind = int.from_bytes(data[at : at + 4], order)
        after = at + 8 + int.from_bytes(data[at + 4 : at + 8], order)
        part = data[at:after]
        if kind == COMPRESSED:
            decoder = zlib.decompressobj()
            part = decoder.decompress(part[8:], left + 1)
            if not decoder.eof and len(part) <= left:
                raise ValueError("it ends too early")
        left -= len(part)
        if left < 0:
            raise ValueError(f"expands to more than {amount(limit)}, the most that is read")
        parts.append(part)
        at = after
    return b"".join(parts)
