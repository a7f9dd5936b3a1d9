"""Transformers: a GPT that reads symbols, and a vision transformer of patches.

x ← x + attention(norm(x)),  x ← x + perceptron(norm(x)),  with norms that have no gain.

Symbols: B rows, T positions, D width, H heads, V different symbols.

Source: Vaswani et al., *Attention is all you need* (2017); Radford et al., *Language models are
unsupervised multitask learners* (2019); Dosovitskiy et al., *An image is worth 16×16 words* (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from noisynets.core.errors import InputError
from noisynets.systems.models.build import Unit, dressed
from noisynets.systems.models.convolutional import picture
from noisynets.systems.models.mixer import PATCH, MeanOverPatches, Patches
from noisynets.systems.settings import NetworkSettings

PER_BLOCK = 6
"""Layers with weights in a block: q, k, v, what joins the heads, and two of a perceptron."""


class Attention(nn.Module):
    """softmax(q kᵀ/√d) v for each head, between layers with weights.

    Args:
        heads: H.
        causal: a position hears itself and those before it, not those after it.
        q: layer of the queries.
        k: layer of the keys.
        v: layer of the values.
        joined: layer of all heads, side by side.
    """

    def __init__(
        self,
        heads: int,
        causal: bool,
        q: nn.Module,
        k: nn.Module,
        v: nn.Module,
        joined: nn.Module,
    ) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.q, self.k, self.v, self.joined = q, k, v, joined

    def forward(self, x: Tensor) -> Tensor:
        """Activities (B, T, D) → the same."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.joined(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then a perceptron, each behind LayerNorm and beside a shortcut.

    Args:
        width: D.
        attention: over positions.
        perceptron: over channels.
    """

    def __init__(self, width: int, attention: nn.Module, perceptron: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = plain_norm(width), plain_norm(width)
        self.attention, self.perceptron = attention, perceptron

    def forward(self, x: Tensor) -> Tensor:
        """Activities (B, T, D) → the same."""
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.perceptron(self.norm2(x))
        return out


class Positions(nn.Module):
    """Adds a learned vector to the activities of each position.

    Every row reads the table by itself, so that it is a node like any other, with its own noise.

    Args:
        table: embedding of the numbers of positions.
    """

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        """Activities (B, T, D) → the same, for any T up to the length of the table."""
        positions = torch.arange(x.shape[1], device=x.device)
        out: Tensor = x + self.table(positions.expand(len(x), -1))
        return out


def plain_norm(width: int) -> nn.LayerNorm:
    """Return a LayerNorm (Ba et al., 2016) without gain and bias."""
    return nn.LayerNorm(width, elementwise_affine=False)


def gpt(
    input_shape: Sequence[int], outputs: int, build: NetworkSettings, unit: str | Unit = "gelu"
) -> nn.Sequential:
    """Embedding, positions, blocks with causal attention, LayerNorm, a head of its own.

    Args:
        input_shape: (T,), the longest context.
        outputs: V.
        build: settings.
        unit: units of the perceptrons.

    Returns:
        Symbols (B, T), int64, → scores of the next symbol at every position, (B, T, V).

    >>> build = NetworkSettings(layers=1, width=8, heads=2)
    >>> gpt((16,), 5, build)(torch.zeros(2, 16, dtype=torch.long)).shape
    torch.Size([2, 16, 5])
    """
    if len(input_shape) != 1:
        raise InputError(f"inputs of shape {tuple(input_shape)}: a gpt reads symbols, of a text")
    first = skip_init(nn.Embedding, outputs, build.width)
    head = skip_init(nn.Linear, build.width, outputs)
    before, places, blocks, last = _stacked(first, input_shape[0], head, build, unit, causal=True)
    modules = nn.ModuleList([before, places, *blocks, plain_norm(build.width)])
    if build.freeze_hidden:
        modules.requires_grad_(False)
    return nn.Sequential(*modules, last)


def vit(
    input_shape: Sequence[int], outputs: int, build: NetworkSettings, unit: str | Unit = "gelu"
) -> nn.Sequential:
    """Patches of 4×4, positions, blocks with attention, a mean over patches, Linear.

    >>> build = NetworkSettings(layers=1, width=8, heads=2)
    >>> vit((3, 32, 32), 10, build)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    channels, height, width = picture(input_shape)
    size = min(PATCH, height, width)
    first = skip_init(nn.Conv2d, channels, build.width, size, stride=size)
    head = skip_init(nn.Linear, build.width, outputs)
    patches = (height // size) * (width // size)
    before, places, blocks, last = _stacked(first, patches, head, build, unit, causal=False)
    mean = MeanOverPatches(plain_norm(build.width))
    modules = nn.ModuleList([Patches(before), places, *blocks, mean])
    if build.freeze_hidden:
        modules.requires_grad_(False)
    return nn.Sequential(*modules, last)


def _stacked(
    first: nn.Module,
    positions: int,
    head: nn.Module,
    build: NetworkSettings,
    unit: str | Unit,
    causal: bool,
) -> tuple[nn.Module, Positions, list[Block], nn.Module]:
    """Return the first layer, the positions, the blocks and the head, on their device."""
    if build.width % build.heads:
        raise InputError(f"--heads {build.heads}: does not divide --width {build.width}")
    wide, layers = 4 * build.width, [first, skip_init(nn.Embedding, positions, build.width)]
    for _ in range(build.layers):
        layers += [skip_init(nn.Linear, build.width, build.width) for _ in range(4)]
        layers.append(skip_init(nn.Linear, build.width, wide))
        layers.append(skip_init(nn.Linear, wide, build.width))
    starts = range(2, len(layers), PER_BLOCK)
    ends = [i + k for i in starts for k in (3, 5)]
    pairs = dressed([*layers, head], build, unit, residual=ends)
    blocks = []
    for i in starts:
        attention = Attention(build.heads, causal, *(pairs[i + k][0] for k in range(4)))
        perceptron = nn.Sequential(*pairs[i + 4], pairs[i + 5][0])
        blocks.append(Block(build.width, attention, perceptron))
    return pairs[0][0], Positions(pairs[1][0]), blocks, pairs[-1][0]
