"""Operations that draw random numbers: which they are, and the modules in which they are made."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import nn

HIDDEN = ("random", "random_", "binomial")
"""Operations that draw, although PyTorch does not tag them."""

DISPATCH = ("noisynets.core.", "torch._", "torch.utils.")
"""Modules between an operation and the code that called it."""


def is_random(func: Any) -> bool:
    """Return True for an operator that may draw random numbers.

    >>> is_random(torch.ops.aten.rand.default), is_random(torch.ops.aten.mm.default)
    (True, False)
    """
    name = func.overloadpacket.__name__
    return torch.Tag.nondeterministic_seeded in func.tags or name in HIDDEN


def arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of an operation by name, also those that have their defaults."""
    schema = func._schema.arguments
    given = {a.name: a.default_value for a in schema if a.has_default_value()}
    return given | dict(zip((a.name for a in schema), args, strict=False)) | kwargs


def draws(given: dict[str, Any]) -> bool:
    """Return False for a call of a random operation that draws nothing, as dropout with p = 0.

    Args:
        given: its arguments by name.
    """
    for name in ("training", "train"):
        if given.get(name) is False:
            return False
    return given.get("dropout_p", given.get("dropout", 1)) != 0


def running(known: Container[nn.Module]) -> list[nn.Module]:
    """Return the modules whose methods are running, the innermost first.

    Args:
        known: modules of the system; others are left out.
    """
    found: list[nn.Module] = []
    for _, owner in _frames():
        if isinstance(owner, nn.Module) and owner in known and owner not in found:
            found.append(owner)
    return found


def runs(kind: type) -> bool:
    """Return True if a method of an object of this type is running."""
    return any(isinstance(owner, kind) for _, owner in _frames())


def by_torch() -> bool:
    """Return True if a layer or a function of `torch.nn` carries out the current operation."""
    outside = (name for name, _ in _frames() if not name.startswith(DISPATCH))
    return next(outside, "").startswith("torch.nn.")


def _frames() -> Iterator[tuple[str, Any]]:
    """Yield the name of the module and the `self` of every running function, from inside out."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_globals.get("__name__", ""), frame.f_locals.get("self")
        if frame.f_back is None:
            break
        frame = frame.f_back
