"""Residual networks of eight layers, with GroupNorm or BatchNorm, and squeeze-and-excitation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from noisynets.bench.networks.network import CLASSES, Gaussian, Network

Norm = Callable[[int], nn.Module]
"""channels → a normalisation."""
GROUP: Norm = partial(nn.GroupNorm, 4)
BATCH: Norm = nn.BatchNorm2d


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3×3 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions with norms, and a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(inputs, outputs, stride), norm(outputs)
        self.conv2, self.norm2 = conv3(outputs, outputs), norm(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H/stride, W/stride)."""
        out = self.norm1(self.conv1(x)).relu()
        return torch.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet8(nn.Module):
    """A convolution, three blocks, and a linear layer."""

    def __init__(self, norm: Norm, widths: tuple[int, int, int] = (8, 16, 32)) -> None:
        super().__init__()
        first, second, third = widths
        self.conv, self.norm = conv3(3, first), norm(first)
        self.layer1 = BasicBlock(first, first, 1, norm)
        self.layer2 = BasicBlock(first, second, 2, norm)
        self.layer3 = BasicBlock(second, third, 2, norm)
        self.fc = nn.Linear(third, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 10)."""
        x = self.norm(self.conv(x)).relu()
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    """A convolution whose channels are scaled by what all positions say (Hu et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, reduced: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.squeeze = nn.Linear(outputs, reduced)
        self.excite = nn.Linear(reduced, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) → (B, outputs, H/2, W/2)."""
        x = torch.relu(self.conv(x))
        scale = torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        return x * scale[:, :, None, None]


class SENet(nn.Module):
    """Two such convolutions, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = SqueezeExcite(3, 16, 4)
        self.block2 = SqueezeExcite(16, 32, 8)
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 10)."""
        return self.fc(self.block2(self.block1(x)).mean((2, 3)))


PICTURES = Gaussian(32, (3, 12, 12), scale=0.5)
SMALL_NOISE = 1e-3
"""σ for many rectifiers behind normalisations: more, added up over layers, moves units across their
kinks, where the measured gain is a mean over both sides."""

RESIDUAL = (
    Network("resnet8-groupnorm", partial(ResNet8, GROUP), PICTURES, sigma=SMALL_NOISE),
    Network(
        "resnet8-batchnorm",
        partial(ResNet8, BATCH),
        replace(PICTURES, batch=128),
        sigma=SMALL_NOISE,
        note="in training mode",
    ),
    Network("squeeze-excite", SENet, PICTURES),
)
