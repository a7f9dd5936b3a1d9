"""Small boxes, with weights and inputs for them."""

import sys

import numpy as np
import torch
from torch import nn

from noisynets.systems.blackbox import (
    BlackBox,
    Distortions,
    NumpyChip,
    Weights,
    tie_weights,
)

SERVE = [sys.executable, "-m", "noisynets.systems.blackbox.serve", "--widths"]


def weights(*widths: int, seed: int = 0) -> list[Weights]:
    rng = np.random.default_rng(seed)
    return [
        Weights(
            (rng.standard_normal((m, n)) / n**0.5).astype(np.float32),
            (0.1 * rng.standard_normal(m)).astype(np.float32),
        )
        for n, m in zip(widths, widths[1:], strict=False)
    ]


def inputs(rows: int, n: int) -> np.ndarray:
    return np.random.default_rng(5).random((rows, n), dtype=np.float32)


def system(distortions: Distortions | None = None, **settings) -> BlackBox:
    """A chip 6-8-3 with a perceptron as its model."""
    box = NumpyChip((6, 8, 3), distortions, **settings)

    def model(box_layers):
        return tie_weights(
            nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)), box_layers
        )

    found = BlackBox(box, model, distortions)
    for layer, (w, b) in zip(found.box_layers, weights(6, 8, 3), strict=True):
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w))
            layer.bias.copy_(torch.from_numpy(b))
    return found


def batch(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(inputs(n, 6))
    return x, (x[:, :3] * 3).long().sum(1) % 3
