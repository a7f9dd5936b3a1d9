"""Guarded reading of one matrix from a MATLAB file, by SciPy."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisynets.core.reading import amount, read_bytes, reason, unreadable

HEADER = 128
"""Bytes in front of the first variable of a file of version 5."""
COMPRESSED = 15
"""Type of an element that holds another one, deflated."""
SECONDS = 60.0
"""After which reading is given up."""
BYTE_ORDERS = {b"IM": "little", b"MI": "big"}


def read_matrix(path: Path, name: str, *, limit: int, advice: str) -> NDArray[Any]:
    """Read a matrix of real numbers from a .mat file of version 4, 5, 6 or 7.

    SciPy takes as much memory as a file claims, and may crash on a damaged one. The file is
    therefore expanded here first, with a bound; only a matrix whose size fits into the expanded
    bytes is read, in a process of its own.

    Args:
        path: of the file.
        name: of the matrix.
        limit: bytes of the file and of the expanded file, at most.
        advice: what to do, for the error message.

    Raises:
        InputError: if the file is damaged or too large, or there is no such matrix.
    """
    data = read_bytes(path, limit=limit, advice=advice)
    try:
        return _read_apart(_expanded(data, limit), name)
    except Exception as error:
        raise unreadable(path, error, advice) from error


def _read_apart(plain: bytes, name: str) -> NDArray[Any]:
    """Read a matrix from the bytes of a file without compression, in a process of its own."""
    command = [sys.executable, "-P", __file__, name]  # without the packages of this room
    child = subprocess.run(command, input=plain, capture_output=True, timeout=SECONDS, check=False)
    if child.returncode < 0:
        raise ValueError("SciPy crashed on it")
    if child.returncode:
        raise ValueError(child.stderr.decode(errors="replace").strip().splitlines()[-1])
    array: NDArray[Any] = np.load(io.BytesIO(child.stdout), allow_pickle=False)
    return array


def _read(plain: bytes, name: str) -> NDArray[Any]:
    """Read a matrix from the bytes of a file without compression."""
    from scipy.io import loadmat, whosmat

    found = {n: (shape, kind) for n, shape, kind in whosmat(io.BytesIO(plain))}
    if name not in found:
        raise ValueError(f"no matrix {name!r}")
    shape, kind = found[name]
    if kind not in ("double", "single") or len(shape) != 2:
        raise ValueError(f"{name!r} is no matrix of numbers, but {kind} of shape {shape}")
    if math.prod(shape) > len(plain):
        raise ValueError(f"{name!r} claims shape {shape} in {amount(len(plain))}")
    array: NDArray[Any] = loadmat(io.BytesIO(plain), variable_names=[name])[name]
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


def _main() -> None:
    """Read a file from standard input, and write its matrix to standard output as .npy."""
    try:
        np.save(sys.stdout.buffer, _read(sys.stdin.buffer.read(), sys.argv[1]), allow_pickle=False)
    except NotImplementedError:
        sys.exit("it is of version 7.3: save it with -v7")
    except Exception as error:  # SciPy's parsers raise errors of many kinds
        sys.exit(reason(error))


if __name__ == "__main__":
    _main()
