"""The whole state of a run in one safetensors file, replaced in one step.

Tensors are stored as such; everything around them (nesting, numbers, strings) is JSON in the
file's header. One file, renamed into place, can be neither half old nor half new.
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
    """Write a file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.partial")  # one name: a leftover is overwritten
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

    Raises:
        TypeError: for anything else in the tree.
    """
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_take_tensors(state, tensors))
    write_atomically(path, save(tensors, metadata={"state": tree}))


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises:
        InputError: for a file that is damaged or no checkpoint.
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
    """Replace tensors by their keys, and dicts by lists of pairs (JSON keys are strings)."""
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
    if isinstance(value, str) and value.startswith(_TENSOR):
        return tensors[value.removeprefix(_TENSOR)]
    if isinstance(value, dict):
        return {k: _put_tensors(v, tensors) for k, v in value["dict"]}
    if isinstance(value, list):
        return [_put_tensors(v, tensors) for v in value]
    return value
