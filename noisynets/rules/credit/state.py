"""Nested states: trees of tensors in one flat dict, with a bar between the names."""

from __future__ import annotations

from torch import Tensor


def nested(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Flatten a tree by one level, with a bar between the names.

    >>> import torch
    >>> nested({"a": {"b": torch.ones(())}})
    {'a|b': tensor(1.)}
    """
    return {f"{a}|{b}": value for a, part in state.items() for b, value in part.items()}


def unnested(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Undo `nested`."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        first, rest = name.split("|", 1)
        found.setdefault(first, {})[rest] = value
    return found
