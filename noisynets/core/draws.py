"""Which operations of PyTorch draw random numbers."""

from __future__ import annotations

from typing import Any

import torch

HIDDEN = ("random", "random_", "binomial")
"""Operations that draw, although PyTorch does not tag them."""


def draws(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return True if a call of an operation draws random numbers; dropout with p = 0 does not.

    >>> draw, copy = torch.ops.aten.randn.default, torch.ops.aten.clone.default
    >>> draws(draw, ([2],), {}), draws(copy, (torch.zeros(2),), {})
    (True, False)
    """
    tagged = torch.Tag.nondeterministic_seeded in func.tags
    if not tagged and func.overloadpacket.__name__ not in HIDDEN:
        return False
    given = by_name(func, args, kwargs)
    if given.get("training") is False or given.get("train") is False:
        return False
    return bool(given.get("dropout_p", given.get("dropout", 1)) != 0)


def by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included."""
    schema = func._schema.arguments  # arguments that have their defaults are not handed over
    given = {a.name: a.default_value for a in schema if a.has_default_value()}
    return given | dict(zip((a.name for a in schema), args, strict=False)) | kwargs
