"""Perceptrons: gated linear units, low-rank adapters of frozen layers, normalised weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from noisynets.bench.networks.network import CLASSES, Gaussian, Network

INPUTS = 48


class GLU(nn.Module):
    """Two layers of gated linear units (Dauphin et al., 2017), and a linear layer."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.value1, self.gate1 = nn.Linear(INPUTS, width), nn.Linear(INPUTS, width)
        self.value2, self.gate2 = nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 48) → (B, 10)."""
        x = self.value1(x) * torch.sigmoid(self.gate1(x))
        x = self.value2(x) * torch.sigmoid(self.gate2(x))
        return self.head(x)


class LoRALinear(nn.Module):
    """A frozen layer and a trained product of low rank beside it (Hu et al., 2022).

    The second factor is not zero, as it would be before training: then the first has no gradient.
    """

    def __init__(self, inputs: int, outputs: int, rank: int = 4) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down = nn.Linear(inputs, rank, bias=False)
        self.up = nn.Linear(rank, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) → (B, outputs)."""
        return self.base(x) + self.up(self.down(x))


def lora() -> nn.Module:
    """Return a perceptron of adapted layers, whose frozen LayerNorms stay as they are."""
    width = 48
    return nn.Sequential(
        LoRALinear(INPUTS, width),
        nn.LayerNorm(width).requires_grad_(False),
        nn.ReLU(),
        LoRALinear(width, width),
        nn.LayerNorm(width).requires_grad_(False),
        nn.ReLU(),
        LoRALinear(width, CLASSES),
    )


def normalised() -> nn.Module:
    """Return a perceptron whose weights have a length and a direction each."""
    return nn.Sequential(
        weight_norm(nn.Linear(INPUTS, 48)),
        nn.ReLU(),
        weight_norm(nn.Linear(48, 48)),
        nn.ReLU(),
        nn.Linear(48, CLASSES),
    )


VECTORS = Gaussian(64, (INPUTS,))

DENSE = (
    Network("glu", GLU, VECTORS),
    Network("lora", lora, VECTORS, note="frozen layers and norms between the adapters"),
    Network("weight-norm", normalised, VECTORS),
)
