"""Networks of sequences: a GRU from its cells, a transformer of PyTorch, and a small GPT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.bench.networks.network import (
    CLASSES,
    SYMBOLS,
    Gaussian,
    Network,
    Text,
    per_position,
)
from noisynets.systems.models import gpt
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.unfused import unfused


class GRU(nn.Module):
    """A gated recurrent unit, its gates written out, and a linear layer behind the last step."""

    def __init__(self, inputs: int = 8, width: int = 32) -> None:
        super().__init__()
        self.width = width
        self.reset = nn.Linear(inputs + width, width)
        self.update = nn.Linear(inputs + width, width)
        self.candidate = nn.Linear(inputs + width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) → (B, 10)."""
        h = x.new_zeros(len(x), self.width)
        for t in range(x.shape[1]):
            both = torch.cat([x[:, t], h], 1)
            r, z = torch.sigmoid(self.reset(both)), torch.sigmoid(self.update(both))
            n = torch.tanh(self.candidate(torch.cat([x[:, t], r * h], 1)))
            h = (1 - z) * n + z * h
        return self.head(h)


class Encoder(nn.Module):
    """PyTorch's encoder of two layers, and a linear layer on the mean over positions."""

    def __init__(self, inputs: int = 8, width: int = 32) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 2, 64, dropout=0.0, batch_first=True)
        self.embed = nn.Linear(inputs, width)
        self.encoder: nn.Module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, inputs) → (B, 10)."""
        return self.head(self.encoder(self.embed(x)).mean(1))


def unfused_encoder() -> nn.Module:
    """Return the encoder with its layers written out by `noisynets.unfused`."""
    network = Encoder()
    network.encoder = unfused(network.encoder)
    return network


def small_gpt(width: int = 32, heads: int = 2, length: int = 16) -> nn.Module:
    """Return the transformer of the catalogue, with two blocks."""
    return gpt((length,), SYMBOLS, NetworkSettings(layers=2, width=width, heads=heads))


STEPS = Gaussian(32, (10, 8))

SEQUENCE = (
    Network("gru-cells", GRU, STEPS, note="10 steps"),
    Network("transformer-encoder", unfused_encoder, STEPS, note="by unfused(…), without dropout"),
    Network("gpt", small_gpt, Text(32, 16), per_position, note="of the catalogue"),
)
