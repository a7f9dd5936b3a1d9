"""Checkpoints: the complete state of a run in one safetensors file.

Tensors are stored as safetensors; everything else (nesting, numbers, strings) is JSON in the
file's header. A new checkpoint replaces the old one by a single rename, so that the file is always
complete.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from noisynets.core.errors import InputError

_TENSOR = "tensor:"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is either complete or unchanged, even after a power failure.

    Args:
        path: path of the file.
        data: its new content.

    Raises:
        OSError: if it cannot be written; an earlier file then remains.
    """
    # always the same name, so that the remains of an interrupted write are overwritten
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


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
    tree = json.dumps(_take_tensors(state, tensors))
    write_atomically(path, save(tensors, metadata={"state": tree}))


def load_state(path: Path) -> dict[str, Any]:
    """Read a tree written by `save_state`.

    Args:
        path: path of the checkpoint.

    Raises:
        InputError: if the file is damaged or is not a checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            tree = json.loads((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(
            f"{path}: the checkpoint is damaged ({error}): restore it, or start the run again"
        ) from error
    state: dict[str, Any] = _put_tensors(tree, tensors)
    return state


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
