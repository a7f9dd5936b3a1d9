"""Small residual networks, with or without normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import skip_init

from noisynets.systems.models.build import Norm, Unit, dressed
from noisynets.systems.models.convolutional import picture
from noisynets.systems.settings import NetworkSettings


class Residual(nn.Module):
    """shortcut + branch, behind units of its own (He et al., 2016, *Identity mappings*).

    Args:
        units: what the stream goes through before the branch.
        branch: convolution, units, convolution.
        shortcut: a convolution of 1×1 behind the units, where the shape changes; None: the
            stream itself.
    """

    def __init__(self, units: nn.Module, branch: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.units = units
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, stream: Tensor) -> Tensor:
        """Activities (B, channels, H, W) → (B, channels', H', W')."""
        x = self.units(stream)
        kept: Tensor = stream if self.shortcut is None else self.shortcut(x)
        out: Tensor = kept + self.branch(x)
        return out


def resnet(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit = "leaky",
    norm: Norm | None = None,
) -> nn.Sequential:
    """A convolution, a residual block of two for every hidden width, averages, Linear.

    From the second block on, the first convolution and the shortcut have stride 2. A norm stands
    before all units.

    >>> import torch
    >>> resnet((3, 32, 32), 10, NetworkSettings(hidden=(8, 16)))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    channels, _, _ = picture(input_shape)
    before = build.widths[0] if build.widths else channels
    layers: list[nn.Module] = [skip_init(nn.Conv2d, channels, before, 3, padding=1)]
    blocks: list[tuple[int, ...]] = []  # places of a block's layers
    for n in build.widths:
        stride = 2 if blocks else 1
        first = len(layers)
        layers.append(skip_init(nn.Conv2d, before, n, 3, stride=stride, padding=1))
        layers.append(skip_init(nn.Conv2d, n, n, 3, padding=1))
        if stride > 1 or before != n:
            layers.append(skip_init(nn.Conv2d, before, n, 1, stride=stride))
        blocks.append(tuple(range(first, len(layers))))
        before = n
    layers.append(skip_init(nn.Linear, before, outputs))
    pairs = dressed(layers, build, unit, residual=[block[1] for block in blocks], norm=norm)
    (stem, units), modules = pairs[0], []
    for first, second, *shortcut in blocks:
        branch = nn.Sequential(*pairs[first], pairs[second][0])
        modules.append(Residual(units, branch, pairs[shortcut[0]][0] if shortcut else None))
        units = pairs[second][1]
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(stem, *modules, units, pool, nn.Flatten(), pairs[-1][0])
