"""Networks that are measured in a moment; other processes import them by name."""

import os

import torch
from torch import Tensor, nn

from noisynets import cross_entropy
from noisynets.bench.networks import Network
from noisynets.bench.networks.network import Gaussian

BATCH = Gaussian(8, (6,))


def linear() -> nn.Module:
    return nn.Linear(6, 10)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 10))


class Unused(nn.Module):
    """Has a frozen layer, and a parameter that its output does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8).requires_grad_(False)
        self.last = nn.Linear(8, 10)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


class Untrained(nn.Module):
    """Trains a parameter that no rule of today reaches, and acts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 10)
        self.layer.weight = nn.Parameter(torch.randn(10, 6, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight.abs(), self.layer.bias)


def absent() -> nn.Module:
    raise ModuleNotFoundError("No module named 'absent'")


def broken() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(6, 10))


def ending() -> nn.Module:
    os._exit(7)


def choosy(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss with an error in it, for other batches than its own."""
    if len(outputs) != BATCH.batch:
        raise KeyError("rows\nand more")
    return cross_entropy(outputs, targets)


LINEAR = Network("linear", linear, BATCH)
PERCEPTRON = Network("perceptron", perceptron, BATCH, note="of two layers")
UNUSED = Network("unused", Unused, BATCH)
REFUSED = Network("refused", Untrained, BATCH)
ABSENT = Network("absent", absent, BATCH)
BROKEN = Network("broken", broken, BATCH)
ENDING = Network("ending", ending, BATCH)
CRASHED = Network("crashed", linear, BATCH, choosy)
