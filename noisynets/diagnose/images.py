"""Pictures among a system's inputs, and the filters of its first layer as pictures."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from noisynets.core.decorrelation import decorrelations
from noisynets.tasks.data import Examples

FILTERS = 64
"""Filters that are shown, at most."""
CHANNELS = (1, 3)
"""Grey, and red, green, blue."""


class Filters(NamedTuple):
    """Filters of a layer.

    Attributes:
        name: path of their weights in the system.
        weights: (n, C, h, w), C is 1 or 3.
        of: number of filters in the layer; where it has more than n, these have the largest norms.
    """

    name: str
    weights: Tensor
    of: int


def has_pictures(shape: tuple[int, ...]) -> bool:
    """Return True for inputs (C, H, W) that are grey or coloured pictures.

    >>> has_pictures((1, 28, 28)), has_pictures((4,)), has_pictures((2, 34, 34))
    (True, False, False)
    """
    return len(shape) == 3 and shape[0] in CHANNELS and min(shape[1:]) > 1


def picture(examples: Examples, index: int) -> Tensor:
    """Return an input as a picture (C, H, W) in float32, from 0 to 1.

    Values of 8 bits are divided by 255; others are stretched over their range in this picture.
    """
    x = examples.x[index].detach().cpu()
    if x.dtype == torch.uint8:
        return x.float() / 255
    low, high = x.float().min(), x.float().max()
    return (x.float() - low) / (high - low).clamp_min(1e-12)


def first_filters(system: nn.Module, shape: tuple[int, ...], most: int = FILTERS) -> Filters | None:
    """Return the filters of the first layer that reads pictures; None if there is no such layer.

    A decorrelated layer computes W R x: its filters are the rows of W R.

    Args:
        system: any module.
        shape: of its inputs, (C, H, W).
        most: number of filters that are returned, at most.

    >>> found = first_filters(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), (1, 4, 4))
    >>> found.name, tuple(found.weights.shape)
    ('1.weight', (3, 1, 4, 4))
    """
    if not has_pictures(shape):
        return None
    for name, weight in system.named_parameters():
        if weight.dim() == 4 and weight.shape[1] == shape[0] and min(weight.shape[2:]) > 1:
            form = tuple(weight.shape[1:])
        elif weight.dim() == 2 and weight.shape[1] == math.prod(shape):
            form = shape
        else:
            continue
        rows = weight.detach().cpu().float().flatten(1)
        for path, module in decorrelations(system):
            if name.startswith(f"{path}."):
                rows = rows @ module.R.detach().cpu().float()
        kept = rows.norm(dim=1).argsort(descending=True)[:most].sort().values
        return Filters(name, rows[kept].view(-1, *form), len(rows))
    return None


def coloured(weights: Tensor) -> Tensor:
    """Return a filter (C, h, w) as a picture (h, w, 3) from 0 to 1.

    Three channels become red, green and blue, with 0 in the middle. One channel is blue where it is
    negative, white at 0, and red where it is positive.
    """
    scaled = weights / weights.abs().max().clamp_min(1e-12)
    if len(weights) == 3:
        return (0.5 + scaled / 2).permute(1, 2, 0)
    value = scaled[0]
    red = torch.tensor([0.70, 0.09, 0.17])
    blue = torch.tensor([0.13, 0.40, 0.67])
    end = torch.where(value[..., None] > 0, red, blue)
    return 1 - value.abs()[..., None] * (1 - end)
