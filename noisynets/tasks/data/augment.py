"""Augmentation: what a picture may look like instead. Both passes of a pair see the same one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from noisynets.core.registry import Registry

PAD = 4


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move every picture by up to 4 pixels each way; zeros come in from the borders.

    Args:
        x: pictures (B, C, H, W).
        generator: of the shifts, on the device of `x`.

    >>> crop(torch.ones(2, 1, 8, 8), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 8, 8])
    """
    b, _, h, w = x.shape
    shifts = torch.randint(2 * PAD + 1, (2, b, 1), device=x.device, generator=generator)
    rows = torch.arange(h, device=x.device) + shifts[0]
    columns = torch.arange(w, device=x.device) + shifts[1]
    padded = F.pad(x, (PAD, PAD, PAD, PAD))
    which = torch.arange(b, device=x.device).view(b, 1, 1)
    return padded.permute(0, 2, 3, 1)[which, rows.unsqueeze(2), columns.unsqueeze(1)].permute(
        0, 3, 1, 2
    )


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror every other picture, left to right, by chance: (B, C, H, W) → (B, C, H, W)."""
    chosen = torch.rand(len(x), 1, 1, 1, device=x.device, generator=generator) < 0.5
    return torch.where(chosen, x.flip(3), x)


AUGMENTATIONS: Registry[Callable[[Tensor, torch.Generator], Tensor]] = Registry(
    "augmentation",
    {
        "none": lambda x, generator: x,
        "crop": crop,
        "flip": flip,
        "crop-flip": lambda x, generator: flip(crop(x, generator), generator),
    },
)
