"""Tables of random numbers, and their look-up on the CPU, which is quicker than drawing each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


@cache
def gaussian_pairs() -> Tensor:
    """Table of pairs of Gaussian numbers, as (2¹⁶,) complex numbers: 256 radii times 256 angles.

    All entries are equally likely. Half the squared radius is exponentially distributed; each of
    256 intervals between its quantiles is represented by its mean.

    Source: Box and Muller, A note on the generation of random normal deviates (1958), doi
    10.1214/aoms/1177706645.
    """
    beyond = torch.linspace(1, 0, 257, dtype=torch.float64, device="cpu")
    integral = beyond - torch.special.xlogy(beyond, beyond)
    radius = (2 * 256 * (integral[:-1] - integral[1:])).sqrt()
    angle = 2 * math.pi * (torch.arange(256, device="cpu").double() + 0.5) / 256
    points = torch.polar(*(v.contiguous() for v in torch.broadcast_tensors(radius[:, None], angle)))
    return points.to(torch.complex64).flatten()


@cache
def signs(dtype: torch.dtype) -> Tensor:
    """The bits of every byte as −1 and +1, (2⁸, 8)."""
    byte = torch.arange(2**8, device="cpu")
    bits = byte[:, None] >> byte[:8] & 1
    return (2 * bits - 1).to(dtype)


def looked_up(
    table: Tensor, index: torch.dtype, shape: Sequence[int], generator: torch.Generator
) -> Tensor:
    """Fill a tensor with table entries at random indices, in pieces that fit the cache."""
    numbers, each = math.prod(shape), 2 if table.is_complex() else math.prod(table.shape[1:])
    found = table.new_empty(-(-numbers // each), *table.shape[1:])
    for piece in found.split(2**16):
        words = table.new_empty(-(-len(piece) * index.itemsize // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=generator)  # all 64 bits
        entries = words.view(index)[: len(piece)].to(torch.int32)
        torch.index_select(table, 0, entries, out=piece)
    found = torch.view_as_real(found) if found.is_complex() else found
    return found.view(-1)[:numbers].view(tuple(shape))
