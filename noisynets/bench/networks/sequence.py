"""Networks of sequences: a GRU from its cells, a transformer of PyTorch, and a small GPT."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisynets.bench.networks.network import (
    CLASSES,
    SYMBOLS,
    Gaussian,
    Network,
    Text,
    per_position,
)
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


class CausalAttention(nn.Module):
    """Attention to what came before, by PyTorch's own function."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) → the same."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, D))


class GPTBlock(nn.Module):
    """Causal attention and a perceptron, each behind LayerNorm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), CausalAttention(width, heads)
        self.ln_2, self.fc = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width) → the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.proj(F.gelu(self.fc(self.ln_2(x))))


class GPT(nn.Module):
    """Two blocks between an embedding with learned positions and an untied head."""

    def __init__(self, width: int = 32, heads: int = 2, length: int = 16) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(GPTBlock(width, heads) for _ in range(2)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)

    def forward(self, symbols: Tensor) -> Tensor:
        """(B, T) → (B, T, 27)."""
        positions = torch.arange(symbols.shape[1], device=symbols.device)
        x = self.symbols(symbols) + self.positions(positions)
        return self.head(self.norm(self.blocks(x)))


STEPS = Gaussian(32, (10, 8))

SEQUENCE = (
    Network("gru-cells", GRU, STEPS, note="10 steps"),
    Network("transformer-encoder", unfused_encoder, STEPS, note="by unfused(…), without dropout"),
    Network("gpt", GPT, Text(32, 16), per_position),
)
