"""Spiking networks: any reference network with neurons as units, run through trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from noisynets.core.seeds import salted
from noisynets.systems.models.build import Unit, neurons
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.spiking import READOUTS, Spiking


def spiking(
    network: Callable[..., nn.Sequential],
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit = "spiking",
) -> Spiking:
    """Put neurons behind every hidden layer of a network, and a read-out behind its last.

    Args:
        network: (input_shape, outputs, build, unit=…) → layers and units.
        input_shape: of one step.
        outputs: of the read-out.
        build: settings.
        unit: of the hidden layers: spiking neurons.

    >>> import torch
    >>> from noisynets.systems.models import mlp
    >>> net = spiking(mlp, (1, 28, 28), 10, NetworkSettings(hidden=(64,), steps=5))
    >>> net(torch.zeros(2, 1, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    step = network(input_shape, outputs, build, unit=unit)
    last = neurons(build, salted(build.noise_seed, "read-out"))
    readout = READOUTS[build.readout](last, build.beta)
    return Spiking(step, build.steps, readout)
