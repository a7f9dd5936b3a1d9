"""Perceptrons on simulated chips that torch does not see, and what their owner believes of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.values import refuse
from noisynets.systems.blackbox import (
    BlackBox,
    Box,
    BoxLayer,
    Distortions,
    NengoBox,
    NumpyChip,
    ProcessBox,
    SpikingChip,
    layers_of,
    tie_weights,
)
from noisynets.systems.blackbox.process import TIMEOUT, words
from noisynets.systems.models.build import initialise_
from noisynets.systems.models.perceptron import mlp
from noisynets.systems.models.spiking import spiking
from noisynets.systems.settings import NetworkSettings

SERVER = "noisynets.systems.blackbox.serve"
STEPS = 10
"""T of a trial of a spiking chip."""


def boxed(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str = "leaky",
    where: Literal["numpy", "process", "nengo"] = "numpy",
) -> BlackBox:
    """Put a perceptron on a chip in NumPy, behind pipes in a process of its own, or in Nengo.

    Args:
        input_shape: of one example.
        outputs: of the last layer.
        build: settings; its intrinsic noise is the chip's read noise.
        unit: leaky, sign or lif; of chips.
        where: the process is that of `build.box`, if there is one.

    >>> import torch
    >>> system = boxed((1, 28, 28), 10, NetworkSettings(hidden=(32,), intrinsic_noise=0.1))
    >>> system(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    refuse(build, NetworkSettings)
    widths = (math.prod(input_shape), *build.widths, outputs)
    box: Box
    if where == "nengo":
        box = NengoBox(widths, noise=build.own_noise, seed=build.noise_seed)
    elif where == "process":
        command = _command(widths, build, unit) if build.box is None else words(build.box)
        box = ProcessBox(command, timeout=build.box_timeout or TIMEOUT)
        _check(box, widths)
    else:
        box = _chip(widths, build, unit)
    expected = Distortions.of(build.spread, build.own_noise)
    unknown = build.box is not None or where == "nengo"
    model = None if unknown else _perfect_model(input_shape, outputs, build, unit)
    system = BlackBox(box, model, expected)
    initialise_(system.box_layers, build)
    if build.freeze_hidden:
        for layer in system.box_layers[:-1]:
            layer.requires_grad_(False)
    return system


def _chip(widths: Sequence[int], build: NetworkSettings, unit: str) -> Box:
    distortions = Distortions.of(build.spread, build.own_noise)
    seeds = {"chip": build.device_seed, "seed": build.noise_seed}
    if unit == "lif":
        return SpikingChip(widths, distortions, steps=STEPS, **seeds)
    return NumpyChip(widths, distortions, unit=unit, slope=build.slope, **seeds)


def _command(widths: Sequence[int], build: NetworkSettings, unit: str) -> list[str]:
    """Return the command that serves the same chip."""
    options = {
        "unit": unit,
        "slope": build.slope,
        "spread": build.spread,
        "read-noise": build.own_noise,
        "chip": build.device_seed,
        "seed": build.noise_seed,
    }
    command = [
        sys.executable,
        "-m",
        SERVER,
        "--widths",
        *map(str, widths),
    ]
    return command + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _check(box: Box, widths: Sequence[int]) -> None:
    if list(box.layers) != layers_of(widths):
        found = "-".join(map(str, (box.layers[0].inputs, *(m for _, m in box.layers))))
        hidden = " ".join(str(m) for _, m in box.layers[:-1])
        raise InputError(
            f"--box: it has the widths {found} where the task and --hidden make "
            f"{'-'.join(map(str, widths))}: give --hidden {hidden}"
        )


class Still(nn.Module):
    """A network in time, whose inputs stay the same through a trial."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in) → (B, outputs)."""
        output: Tensor = self.network(x.unsqueeze(1))
        return output


def _perfect_model(
    input_shape: Sequence[int], outputs: int, build: NetworkSettings, unit: str
) -> Callable[[list[BoxLayer]], nn.Module]:
    """Return the maker of the perfect network of which the chip is a bad copy."""
    clean = NetworkSettings(
        hidden=build.widths, slope=build.slope, steps=STEPS, straight_through=True
    )

    def model(box_layers: list[BoxLayer]) -> nn.Module:
        if unit == "lif":
            return tie_weights(Still(spiking(mlp, input_shape, outputs, clean)), box_layers)
        return tie_weights(mlp(input_shape, outputs, clean, unit), box_layers)

    return model
