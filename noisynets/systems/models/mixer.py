"""MLP-mixer: perceptrons over patches and over channels, in turn."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import skip_init

from noisynets.systems.models.build import Unit, dressed
from noisynets.systems.models.convolutional import picture
from noisynets.systems.settings import NetworkSettings

PATCH = 4


class MixerBlock(nn.Module):
    """Mixes the patches, then the channels, each behind LayerNorm (Tolstikhin et al., 2021).

    Args:
        width: channels of the stream.
        patches: perceptron over patches: layer, units, layer.
        channels: perceptron over channels.
    """

    def __init__(self, width: int, patches: nn.Module, channels: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.patches, self.channels = patches, channels

    def forward(self, stream: Tensor) -> Tensor:
        """Activities (B, patches, width) → the same."""
        mixed = self.patches(self.norm1(stream).transpose(1, 2)).transpose(1, 2)
        stream = stream + mixed
        out: Tensor = stream + self.channels(self.norm2(stream))
        return out


class Patches(nn.Module):
    """Cuts pictures into patches, and computes the activities of each.

    Args:
        layer: a convolution whose stride is the size of a patch.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, patches, width)."""
        out: Tensor = self.layer(x).flatten(2).transpose(1, 2)
        return out


class MeanOverPatches(nn.Module):
    """Mean over patches, behind a norm of each.

    Args:
        norm: of the channels of the stream.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, stream: Tensor) -> Tensor:
        """(B, patches, width) → (B, width)."""
        out: Tensor = self.norm(stream).mean(1)
        return out


def mixer(
    input_shape: Sequence[int], outputs: int, build: NetworkSettings, unit: str | Unit = "leaky"
) -> nn.Sequential:
    """Patches of 4×4, a block for every hidden width, a mean over patches, Linear.

    The first width is that of the stream and of the perceptrons over patches; a block's own width
    is that of its perceptron over channels.

    >>> import torch
    >>> mixer((3, 32, 32), 10, NetworkSettings(hidden=(8, 16)))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    channels, height, width = picture(input_shape)
    size = min(PATCH, height, width)
    patches = (height // size) * (width // size)
    stream = build.widths[0] if build.widths else channels
    layers: list[nn.Module] = [skip_init(nn.Conv2d, channels, stream, size, stride=size)]
    for n in build.widths:
        layers += [skip_init(nn.Linear, patches, stream), skip_init(nn.Linear, stream, patches)]
        layers += [skip_init(nn.Linear, stream, n), skip_init(nn.Linear, n, stream)]
    layers.append(skip_init(nn.Linear, stream, outputs))
    pairs = dressed(layers, build, unit, residual=range(2, len(layers) - 1, 2))
    blocks = []
    for i in range(1, len(layers) - 1, 4):
        perceptrons = (nn.Sequential(*pairs[k], pairs[k + 1][0]) for k in (i, i + 2))
        blocks.append(MixerBlock(stream, *perceptrons))
    modules = [Patches(pairs[0][0]), *blocks, MeanOverPatches(nn.LayerNorm(stream))]
    if build.freeze_hidden:
        nn.ModuleList(modules).requires_grad_(False)
    return nn.Sequential(*modules, pairs[-1][0])
