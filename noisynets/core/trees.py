"""Trees: tensors in nested tuples, lists, mappings and dataclasses.

Every other object is a leaf: a number, a string, None, and a `PackedSequence`, whose tensors have
no row per sample.
"""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

ATOMS = (int, float, str, type(None), torch.dtype, torch.device, torch.layout)


def leaves(tree: Any) -> list[Tensor]:
    """Return the tensors of a tree, in order.

    >>> import torch
    >>> leaves({"a": torch.zeros(1), "b": (torch.ones(1), None, "text")})
    [tensor([0.]), tensor([1.])]
    """
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Tensor]) -> None:
    """Append the tensors of a tree; called for the arguments of every traced operation."""
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, tuple | list) and not isinstance(tree, PackedSequence):
        for part in tree:
            _collect(part, found)
    elif isinstance(tree, ATOMS):
        return
    else:
        for _, part in _parts(tree) or ():
            _collect(part, found)


def named(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every leaf with its path.

    Args:
        tree: any tree.
        name: of the tree.

    >>> [path for path, _ in named({"x": (1, 2)}, "inputs")]
    ["inputs['x'][0]", "inputs['x'][1]"]
    """
    parts = _parts(tree)
    if parts is None:
        yield name, tree
    for key, part in parts or ():
        yield from named(part, f"{name}{key}")


def mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return a tree of the same types with `change(leaf)` in place of every leaf.

    A tree in which nothing changes is returned as it is; a mapping that is no dict becomes one.

    >>> from typing import NamedTuple
    >>> class Pair(NamedTuple):
    ...     one: int
    ...     other: int
    >>> mapped([Pair(1, 2), {"a": 3}], lambda leaf: leaf + 1)
    [Pair(one=2, other=3), {'a': 4}]
    """
    parts = _parts(tree)
    if parts is None:
        return change(tree)
    new = [mapped(part, change) for _, part in parts]
    if all(one is other for one, (_, other) in zip(new, parts, strict=True)):
        return tree
    if isinstance(tree, tuple | list):
        kind: Any = type(tree)
        return kind(*new) if hasattr(tree, "_fields") else kind(new)
    if isinstance(tree, Mapping):
        found: Any = copy.copy(tree) if isinstance(tree, dict | UserDict) else {}
        for key, part in zip(tree, new, strict=True):
            found[key] = part
        return found
    found = copy.copy(tree)
    for field, part in zip(fields(tree), new, strict=True):
        object.__setattr__(found, field.name, part)
    return found


def _parts(tree: Any) -> list[tuple[str, Any]] | None:
    """Return the direct parts of a tree with their places; None of a leaf."""
    if isinstance(tree, tuple | list):
        packed = isinstance(tree, PackedSequence)
        return None if packed else [(f"[{i}]", part) for i, part in enumerate(tree)]
    if isinstance(tree, Mapping):
        return [(f"[{key!r}]", part) for key, part in tree.items()]
    if hasattr(type(tree), "__dataclass_fields__"):
        return [(f".{field.name}", getattr(tree, field.name)) for field in fields(tree)]
    return None
