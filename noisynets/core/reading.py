"""Guarded reading of files, JSON, TOML and compressed bytes: damage becomes one `InputError`.

Whatever comes from outside passes through here: sizes are bounded before anything is read or
expanded, only regular files are opened, and every error names the file, what was found, and what
to do. `noisynets.core.arrays` does the same for .npz files.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import stat
import tomllib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from noisynets.core.errors import InputError

TEXT = 2**20
"""Bytes of a settings file, at most."""
DEPTH = 50
"""Levels of lists and tables in JSON and TOML, at most."""
DOTS = 1000
"""Dots in a line of TOML, at most: a key of n parts takes time and memory that grow as n²."""
DICTIONARY = 2**28
"""Bytes that the decoder of .xz files may use for itself."""

_CHUNK = 2**20


def opened(path: Path, advice: str = "restore it") -> io.BufferedReader:
    """Open a regular file for reading; a pipe, device or directory is refused without waiting.

    Args:
        path: of the file.
        advice: what to do, for the error message.

    Raises:
        InputError: if there is no such file or it cannot be opened.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, advice) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: is a pipe or a device, not a file: {advice}")
    return file


def read_bytes(path: Path, *, limit: int, advice: str = "restore it") -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        InputError: if it is longer, or cannot be read.
    """
    with opened(path, advice) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            data = file.read(limit + 1) if size <= limit else b""
        except (OSError, MemoryError) as error:
            raise unreadable(path, error, advice) from error
    if size > limit or len(data) > limit:
        raise InputError(f"{path}: longer than {amount(limit)}, the most that is read: {advice}")
    return data


def read_text(path: Path, *, limit: int = TEXT, advice: str = "restore it") -> str:
    """Read a text in UTF-8; a byte-order mark is dropped.

    Raises:
        InputError: if it is too long, cannot be read, or is no text.
    """
    data = read_bytes(path, limit=limit, advice=advice)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(path, error, advice) from error


def read_json(path: Path, *, limit: int = TEXT, advice: str = "restore it") -> Any:
    """Read a JSON file; see `parse_json`."""
    return parse_json(read_text(path, limit=limit, advice=advice), str(path), advice)


def parse_json(text: str, what: str, advice: str = "restore it") -> Any:
    """Return the value of a JSON text.

    Args:
        text: the text.
        what: its name in error messages.
        advice: what to do, for the error message.

    Raises:
        InputError: for other texts, deep nesting, or a name that stands twice in a table.

    >>> parse_json('{"lr": 0.1}', "config.json")
    {'lr': 0.1}
    >>> parse_json('{"lr": 0.1, "lr": 1}', "config.json")
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: config.json: cannot be read ('lr' is there twice): restore it
    """
    return _parsed(lambda: json.loads(text, object_pairs_hook=_once), what, advice)


def read_toml(path: Path, *, limit: int = TEXT, absent: str = "correct it") -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: of the file.
        limit: its length, at most.
        absent: what to do where there is no such file, for the error message.

    Raises:
        InputError: if it is too long, cannot be read, is no TOML, or is nested too deeply.
    """
    advice = "correct it" if path.exists() else absent
    text = read_text(path, limit=limit, advice=advice)
    if any(line.count(".") > DOTS for line in text.splitlines()):
        raise InputError(f"{path}: a line has more than {DOTS} dots: {advice}")
    found: dict[str, Any] = _parsed(lambda: tomllib.loads(text), str(path), advice)
    return found


def expanded(data: bytes, suffix: str, *, limit: int, what: str, advice: str) -> bytes:
    """Return what compressed bytes expand to.

    Args:
        data: the bytes.
        suffix: '.gz', '.xz', or '' for bytes that are not compressed.
        limit: bytes of the result, at most.
        what: name in error messages.
        advice: what to do, for the error message.

    Raises:
        InputError: if the bytes are damaged, or expand to more.

    >>> expanded(gzip.compress(bytes(9)), ".gz", limit=9, what="a", advice="restore it") == bytes(9)
    True
    >>> expanded(gzip.compress(bytes(10)), ".gz", limit=9, what="a", advice="restore it")
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: a: expands to more than 9 bytes, the most ...: restore it
    """
    found = io.BytesIO()
    expand(io.BytesIO(data), found, suffix, limit=limit, what=what, advice=advice)
    return found.getvalue()


def expand(
    source: BinaryIO, target: BinaryIO, suffix: str, *, limit: int, what: str, advice: str
) -> None:
    """Expand a compressed stream into another, in pieces; see `expanded`."""
    try:
        stream = _OPENERS[suffix](source)
        left = limit + 1
        while left and (piece := stream.read(min(left, _CHUNK))):
            left -= len(piece)
            target.write(piece)
    except Exception as error:  # zlib, lzma and gzip raise errors of many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the target: a full disk, say
        raise unreadable(what, error, advice) from error
    if not left:
        raise InputError(
            f"{what}: expands to more than {amount(limit)}, the most that is read: {advice}"
        )


def memory() -> int:
    """Return the bytes of memory that this process may use, at most."""
    found = [2**34]
    if hasattr(os, "sysconf"):
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
        import resource  # not on Windows

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        found += [soft] if soft != resource.RLIM_INFINITY else []
    try:  # of a container
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        pass
    return min(found)


def unreadable(what: object, error: BaseException, advice: str) -> InputError:
    """Return the error for something that cannot be read, with the reason in a few words."""
    return InputError(f"{what}: cannot be read ({reason(error)}): {advice}")


def reason(error: BaseException) -> str:
    """Return an error's reason: one line, without the name of a file that is named already.

    >>> reason(OSError(2, "No such file or directory", "a.json"))
    'No such file or directory'
    >>> reason(EOFError())
    'EOFError'
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join(text.split())
    return f"{words[:200]}…" if len(words) > 200 else words or type(error).__name__


def amount(size: int) -> str:
    """Return a number of bytes in words.

    >>> amount(9), amount(2**20), amount(3 * 2**30)
    ('9 bytes', '1 MiB', '3 GiB')
    """
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parsed(parse: Callable[[], Any], what: str, advice: str) -> Any:
    try:
        found = parse()
    except (ValueError, RecursionError, MemoryError) as error:
        raise unreadable(what, error, advice) from error
    if _deeper(found):
        raise InputError(f"{what}: is nested more than {DEPTH} levels deep: {advice}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _deeper(value: Any) -> bool:
    """Return True if lists and tables are nested more than `DEPTH` levels deep."""
    level = [value]
    for _ in range(DEPTH):
        tables = [list(item.values()) for item in level if isinstance(item, dict)]
        lists = [item for item in level if isinstance(item, list)]
        level = list(chain(*tables, *lists))
    return any(isinstance(item, dict | list) for item in level)


def _xz(stream: BinaryIO) -> BinaryIO:
    # LZMAFile has no bound on the decoder's memory
    decoder = lzma.LZMADecompressor(memlimit=DICTIONARY)
    return io.BufferedReader(_Decoded(stream, decoder), _CHUNK)


class _Decoded(io.RawIOBase):
    """The decoded bytes of an .xz stream.

    Args:
        stream: to decode.
        decoder: with which.
    """

    def __init__(self, stream: BinaryIO, decoder: lzma.LZMADecompressor) -> None:
        self.stream, self.decoder = stream, decoder

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.decoder.eof:
            given = self.stream.read(_CHUNK) if self.decoder.needs_input else b""
            if self.decoder.needs_input and not given:
                raise EOFError("it ends too early")
            found = self.decoder.decompress(given, len(buffer))
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0


_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "": lambda stream: stream,
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".xz": _xz,
}
