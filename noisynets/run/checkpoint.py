"""Checkpoints: the complete state of a run in one safetensors file.

Tensors are stored as safetensors; everything else (nesting, numbers, strings) is JSON in the
file's header, beside a checksum of the whole file. A new checkpoint replaces the old one by a
single rename, so that the file is always complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.reading import memory, parse_json, read_bytes, reason

_TENSOR = "tensor:"
_UNKNOWN = "0" * 64
_CHECKSUM = re.compile(rb'\\"checksum\\": \\"([0-9a-f]{64})\\"')
_ADVICE = "restore it, or start the run again"


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that it is either complete or unchanged, even after a power failure.

    Links are not followed: a link at the path is replaced, and what it points to stays as it is.

    Args:
        path: path of the file.
        *parts: its new content, one after another.

    Raises:
        InputError: if there is a directory at the path.
        OSError: if it cannot be written; an earlier file then remains.
    """
    # always the same name, so that the remains of an interrupted write are removed
    temporary = path.with_name(f".{path.name}.partial")
    for place in (path, temporary):
        if place.is_dir() and not place.is_symlink():
            raise InputError(f"{place}: a directory is where a file is to be written: remove it")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb", opener=_without_links) as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a tree of dicts, lists, tensors and JSON values.

    Args:
        path: path of the checkpoint.
        state: the tree.

    Raises:
        TypeError: if the tree contains anything else.
        OSError: if the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = {"checksum": _UNKNOWN, "tree": _take_tensors(state, tensors)}
    data = memoryview(save(tensors, metadata={"state": json.dumps(tree)}))
    start, stop = _place(data)
    checksum = hashlib.blake2b(data, digest_size=32).hexdigest().encode()
    write_atomically(path, data[:start], checksum, data[stop:])


def load_state(path: Path) -> dict[str, Any]:
    """Read a tree written by `save_state`.

    Args:
        path: path of the checkpoint.

    Raises:
        InputError: if a bit of the file differs from what was written, or it is not a checkpoint.
    """
    data = read_bytes(path, limit=memory() // 2, advice=_ADVICE)
    try:
        start, stop = _place(data)
        found = hashlib.blake2b(memoryview(data)[:start], digest_size=32)
        found.update(_UNKNOWN.encode())
        found.update(memoryview(data)[stop:])
        if found.hexdigest().encode() != data[start:stop]:
            raise ValueError("its checksum differs")
        text = json.loads(_header(data))["__metadata__"]["state"]
        tree = parse_json(text, str(path), _ADVICE)["tree"]
        state: dict[str, Any] = _put_tensors(tree, load(data))
        if not isinstance(state, dict):
            raise ValueError("it is no tree")
    except InputError:
        raise
    except Exception as error:  # safetensors raises errors of many kinds
        raise InputError(
            f"{path}: the checkpoint is damaged ({reason(error)}): {_ADVICE}", page=Page.DAMAGE
        ) from error
    return state


def _place(data: bytes | memoryview) -> tuple[int, int]:
    """Return where the checksum stands in a file."""
    found = _CHECKSUM.search(_header(data))
    if found is None:
        raise ValueError("it has no checksum; version 0.2 and earlier wrote none")
    return 8 + found.start(1), 8 + found.end(1)


def _header(data: bytes | memoryview) -> bytes:
    """Return the header of a safetensors file, which is JSON."""
    return bytes(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _take_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Replace tensors by keys, and dicts by lists of pairs, as keys in JSON are always strings."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return _TENSOR + key
    if isinstance(value, dict):
        return {"dict": [[k, _take_tensors(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(v, tensors) for v in value]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Invert `_take_tensors`."""
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        return {k: _put_tensors(v, tensors) for k, v in value["dict"]}
    if isinstance(value, list):
        return [_put_tensors(v, tensors) for v in value]
    return value
