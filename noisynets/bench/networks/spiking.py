"""Spiking convolutions with normalisation."""

from __future__ import annotations

from torch import nn

from noisynets.bench.networks.network import CLASSES, Gaussian, Network
from noisynets.systems.spiking import Leaky, Spiking


def spiking() -> nn.Module:
    """Return two convolutions with GroupNorm and spiking neurons, run for ten steps."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.GroupNorm(4, 8),
        Leaky(0.9),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.GroupNorm(4, 16),
        Leaky(0.9),
        nn.Flatten(),
        nn.Linear(16 * 3 * 3, CLASSES),
    )
    return Spiking(network, steps=10)


SPIKING = (
    Network(
        "spiking-groupnorm",
        spiking,
        Gaussian(512, (1, 3, 12, 12), scale=0.5),
        sigma=0.1,
        note="compared with a surrogate gradient (arctan), as spikes have none",
    ),
)
