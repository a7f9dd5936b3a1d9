"""Speed of matrix products on this processor, by dtype."""

from __future__ import annotations

import warnings
from functools import cache
from time import perf_counter

import torch
from torch import nn

from noisynets.core.notes import users_level

SLOW = 1.5
"""A product that takes this much longer than in the weights' dtype is warned of."""


def warn_slow_products(system: nn.Module, dtype: torch.dtype | None) -> None:
    """Warn of a dtype in which this processor computes products more slowly than in the weights'.

    Args:
        system: its first parameter tells the weights' dtype and device.
        dtype: of products of credit and inputs; None: the weights'.
    """
    weight = next(system.parameters(), None)
    if dtype is None or weight is None or weight.device.type != "cpu" or weight.dtype == dtype:
        return
    ratio = slowdown(dtype, weight.dtype)
    if ratio > SLOW:
        name, own = (str(d).removeprefix("torch.") for d in (dtype, weight.dtype))
        warnings.warn(
            f"product_dtype {name}: a product takes {ratio:.1f} times as long as in {own} on this "
            f"processor: leave product_dtype (--product-dtype) out",
            stacklevel=users_level(),
        )


@cache
def slowdown(dtype: torch.dtype, against: torch.dtype, size: int = 256) -> float:
    """Return the time of a matrix product on this CPU, relative to that in another dtype.

    Both are the shortest of five, of square matrices of `size`; it takes some milliseconds.
    """
    shortest = dict.fromkeys((dtype, against), float("inf"))
    for _ in range(5):
        for each in shortest:
            x = torch.ones(size, size, dtype=each, device="cpu")
            start = perf_counter()
            torch.mm(x, x)
            shortest[each] = min(shortest[each], perf_counter() - start)
    return shortest[dtype] / shortest[against]
