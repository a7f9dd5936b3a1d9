"""Random augmentation of images. All passes of a pair get the same augmented batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from noisynets.core.registry import Registry

PAD = 4
"""Largest shift of a crop, in pixels."""


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image by up to 4 pixels in each direction, padding with zeros.

    Args:
        x: images (B, C, H, W).
        generator: random generator for the shifts, on the device of `x`.

    Returns:
        Shifted images (B, C, H, W).

    >>> crop(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """
    b, _, h, w = x.shape
    shifts = torch.randint(2 * PAD + 1, (2, b, 1), device=x.device, generator=generator)
    rows = torch.arange(h, device=x.device) + shifts[0]
    columns = torch.arange(w, device=x.device) + shifts[1]
    padded = F.pad(x, (PAD, PAD, PAD, PAD))
    image = torch.arange(b, device=x.device).view(b, 1, 1)
    return padded.permute(0, 2, 3, 1)[image, rows.unsqueeze(2), columns.unsqueeze(1)].permute(
        0, 3, 1, 2
    )


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flip every image left to right with probability ½.

    Args:
        x: images (B, C, H, W).
        generator: random generator for the choice, on the device of `x`.

    Returns:
        Images (B, C, H, W).
    """
    flipped = torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) < 0.5
    return torch.where(flipped, x.flip(3), x)


AUGMENTATIONS: Registry[Callable[[Tensor, torch.Generator], Tensor]] = Registry(
    "augmentation",
    {
        "none": lambda x, generator: x,
        "crop": crop,
        "flip": flip,
        "crop-flip": lambda x, generator: flip(crop(x, generator), generator),
    },
)
