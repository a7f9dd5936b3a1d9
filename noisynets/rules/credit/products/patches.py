"""Patches: the inputs of single products of a convolution, and of a transposed one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from noisynets.rules.credit.products.geometry import spread

Places = tuple[Tensor, Tensor]
"""Of positions × taps: the place in the input, and True where there is one, (L, k)."""


def chosen(
    layer: _ConvNd, x: Tensor, outputs: Tensor, places: list[Places], rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Return patches spread over samples and positions, and the outputs there.

    Args:
        layer: gives the groups.
        x: its padded input, (N, in, *size).
        outputs: (N, out, *positions).
        places: of every dimension.
        rows: number of patches; they are taken from as many samples, at most.
        update: its number.

    Returns:
        As `shown`.
    """
    a = outputs[:rows].flatten(2)
    index = spread(len(a) * a.shape[2], rows, update, x.device)
    sample, position = index // a.shape[2], index % a.shape[2]
    at, valid = _flat(position, places, outputs.shape[2:], x.shape[2:])
    values = x[:rows].flatten(2)[sample.unsqueeze(1), :, at]  # (rows, taps, in)
    patches = torch.where(valid.unsqueeze(2), values, 0).transpose(1, 2)
    made = a[sample, :, position]
    if layer.groups == 1:
        return patches.flatten(1), made
    grouped = patches.unflatten(1, (layer.groups, -1)).flatten(2).transpose(0, 1)
    return grouped.contiguous(), made.unflatten(1, (layer.groups, -1)).transpose(0, 1).contiguous()


def _flat(
    position: Tensor, places: list[Places], positions: torch.Size, size: torch.Size
) -> Places:
    """Return the places of the taps of some positions, in the flattened input: (rows, taps)."""
    at = torch.zeros(len(position), 1, dtype=torch.int64, device=position.device)
    valid = torch.ones_like(at, dtype=torch.bool)
    for i, (place, there) in enumerate(places):
        along = position // positions[i + 1 :].numel() % positions[i]
        at = (at.unsqueeze(2) * size[i] + place[along].unsqueeze(1)).flatten(1)
        valid = (valid.unsqueeze(2) & there[along].unsqueeze(1)).flatten(1)
    return at, valid


def within(place: Tensor, size: int) -> Places:
    """Return places in an input of some size, and True where they are inside."""
    return place.clamp(0, size - 1), (place >= 0) & (place < size)
