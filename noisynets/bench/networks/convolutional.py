"""Convolutional networks with depthwise layers, dense concatenation, and skips between scales."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisynets.bench.networks.network import CLASSES, Maps, Network, per_pixel
from noisynets.bench.networks.residual import BATCH, GROUP, PICTURES, Norm


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, with hard-swish (MobileNetV3)."""

    def __init__(self, channels: int, expanded: int, norm: Norm) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, expanded, 1, bias=False)
        self.norm1 = norm(expanded)
        self.depthwise = nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False)
        self.norm2 = norm(expanded)
        self.project = nn.Conv2d(expanded, channels, 1, bias=False)
        self.norm3 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → the same."""
        h = F.hardswish(self.norm1(self.expand(x)))
        h = F.hardswish(self.norm2(self.depthwise(h)))
        return x + self.norm3(self.project(h))


class MobileNet(nn.Module):
    """A convolution, two inverted residuals, and a linear layer."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, stride=2, padding=1, bias=False)
        self.norm = norm(12)
        self.blocks = nn.Sequential(*(InvertedResidual(12, 24, norm) for _ in range(2)))
        self.classifier = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 10)."""
        x = self.blocks(F.hardswish(self.norm(self.stem(x))))
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


class DenseNet(nn.Module):
    """Every layer sees the outputs of all layers before it (Huang et al., 2017)."""

    def __init__(self, growth: int = 8, layers: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.Conv2d(growth * (i + 1), growth, 3, padding=1) for i in range(layers)
        )
        self.fc = nn.Linear(growth * (layers + 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 10)."""
        x = torch.relu(self.stem(x))
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return self.fc(F.avg_pool2d(x, x.shape[-1]).flatten(1))


class UNet(nn.Module):
    """Down, up again, and a skip between the scales (Ronneberger et al., 2015)."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 12, 3, padding=1)
        self.down = nn.Conv2d(12, 24, 3, padding=1)
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2) if transposed else None
        self.merge = nn.Conv2d(24 if transposed else 36, 12, 3, padding=1)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 3, H, W)."""
        skip = F.relu(self.inner(x))
        low = F.relu(self.down(F.max_pool2d(skip, 2)))
        if self.up is None:
            low = F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            low = self.up(low)
        return self.head(F.relu(self.merge(torch.cat([skip, low], 1))))


SCENES = Maps(32, 3, 12)

CONVOLUTIONAL = (
    Network("mobilenet-groupnorm", partial(MobileNet, GROUP), PICTURES),
    Network("mobilenet-batchnorm", partial(MobileNet, BATCH), PICTURES, note="in training mode"),
    Network("densenet", DenseNet, PICTURES),
    Network("unet-transposed", partial(UNet, True), SCENES, per_pixel),
    Network("unet-interpolate", partial(UNet, False), SCENES, per_pixel),
)
