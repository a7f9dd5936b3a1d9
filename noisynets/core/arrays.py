"""Guarded reading of .npz files and messages: bounded sizes, plain numbers and texts only."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from noisynets.core.errors import InputError
from noisynets.core.reading import amount, opened, reason

if TYPE_CHECKING:
    from numpy import dtype
    from numpy.typing import NDArray

MEMBERS = 10_000
"""Arrays in a file, at most."""
RATIO = 1100
"""Deflated bytes expand to at most 1032 times as many."""
KINDS = "biufSU"
"""NumPy's kinds of arrays that are read: booleans, whole numbers, numbers and texts."""

_CHUNK = 2**20


def read_npz(
    source: bytes | Path,
    *,
    limit: int,
    what: str,
    names: Collection[str] | None = None,
    advice: str = "restore it",
) -> dict[str, NDArray[Any]]:
    """Read an .npz file or message; nothing in it is unpickled.

    Sizes are checked before memory is taken: those that the directory claims against those of the
    compressed bytes and `limit`, and those of an array's header against the bytes that follow it.
    Numbers of any byte order become native ones.

    Args:
        source: path of the file, or the bytes themselves.
        limit: bytes of all arrays together, with about 128 for the header of each, at most.
        what: name in error messages.
        names: arrays to read, which must be there; None: all.
        advice: what to do, for error messages.

    Returns:
        Writable arrays by name: booleans, whole numbers, numbers of up to 8 bytes, and texts.

    Raises:
        InputError: if the file is damaged, too large, or has other kinds of arrays.

    >>> import numpy as np
    >>> file = io.BytesIO()
    >>> np.savez(file, x=np.array([1, 2], dtype=">i4"))
    >>> read_npz(file.getvalue(), limit=200, what="the answer")
    {'x': array([1, 2], dtype=int32)}
    >>> read_npz(file.getvalue(), limit=200, what="the answer", names=["y"])
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: the answer: not a readable .npz file (no array 'y'): ...
    """
    try:
        if isinstance(source, bytes):
            return _read(io.BytesIO(source), limit, names)
        with opened(source, advice) as file:
            return _read(file, limit, names)
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many kinds
        raise InputError(f"{what}: not a readable .npz file ({reason(error)}): {advice}") from error


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of an .npz file.

    >>> import numpy as np
    >>> read_npz(npz({"x": np.zeros(2)}), limit=200, what="the answer")
    {'x': array([0., 0.])}
    """
    import numpy as np

    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _read(stream: BinaryIO, limit: int, names: Collection[str] | None) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(stream) as archive:
        members = _members(archive)
        lacking = sorted(set(names or ()) - members.keys())
        if lacking:
            raise ValueError(f"no array {', '.join(map(repr, lacking))}")
        chosen = {n: info for n, info in members.items() if names is None or n in names}
        total = sum(info.file_size for info in chosen.values())
        if total > limit:
            raise ValueError(f"it claims {amount(total)}, more than {amount(limit)}")
        for name, info in chosen.items():
            if info.file_size > RATIO * info.compress_size + _CHUNK:
                raise ValueError(f"{name!r} claims {amount(info.file_size)}, which it cannot hold")
        return {name: _array(name, _content(archive, info)) for name, info in chosen.items()}


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an archive, by name."""
    found: dict[str, zipfile.ZipInfo] = {}
    if len(archive.infolist()) > MEMBERS:
        raise ValueError(f"more than {MEMBERS} arrays")
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        if info.flag_bits & 1:
            raise ValueError(f"{name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name!r} is compressed by an unknown method")
        found[name] = info
    return found


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytearray:
    """Return the bytes of a member, whose checksum is verified."""
    content = bytearray(info.file_size)
    at = 0
    with archive.open(info) as file:
        while piece := file.read(_CHUNK):
            content[at : at + len(piece)] = piece
            at += len(piece)
    if at != info.file_size:
        raise ValueError(f"{info.filename!r} ends too early")
    return content


def _array(name: str, content: bytearray) -> NDArray[Any]:
    """Return the array whose .npy file is `content`."""
    import numpy as np

    head = io.BytesIO(bytes(content[:_CHUNK]))
    shape, fortran, kind = _header(head)
    plain = kind.kind in KINDS and kind.subdtype is None and kind.itemsize > 0
    if not plain or (kind.kind not in "SU" and kind.itemsize > 8):
        raise ValueError(f"{name!r} has the type {str(kind)[:40]}, not that of plain numbers")
    claimed, there = math.prod(shape) * kind.itemsize, len(content) - head.tell()
    if claimed != there or min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError(f"{name!r} has {there} bytes, and its header claims shape {shape}")
    array: NDArray[Any] = np.ndarray(
        shape, kind, buffer=content, offset=head.tell(), order="F" if fortran else "C"
    )
    return np.require(array, kind.newbyteorder("="), requirements=["A", "W"])


def _header(head: io.BytesIO) -> tuple[tuple[int, ...], bool, dtype[Any]]:
    """Read shape, order and type from the beginning of an .npy file."""
    from numpy.lib import format as npy

    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(head)
    if version not in readers:
        raise ValueError(f"its arrays have the unknown format {version}")
    start = head.tell()
    length = int.from_bytes(head.read(2 if version == (1, 0) else 4), "little")
    if b"L" in head.read(length):  # a number of Python 2, of which NumPy warns
        raise ValueError("its arrays were written by Python 2")
    head.seek(start)
    shape, fortran, kind = readers[version](head)
    return shape, fortran, kind
