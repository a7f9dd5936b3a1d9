"""Named device presets, and `Chip`, which applies one to every layer of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from noisynets.core.registry import Registry
from noisynets.core.types import Wrapper
from noisynets.systems.checks import not_negative
from noisynets.systems.devices.correlated import Telegraph
from noisynets.systems.devices.gaussian import AdditiveGaussian, Shot
from noisynets.systems.devices.noisy import Noisy
from noisynets.systems.devices.pcm import PCM
from noisynets.systems.devices.periphery import Periphery
from noisynets.systems.devices.reram import ReRAM
from noisynets.systems.devices.spread import GainOffset, WeightSpread
from noisynets.systems.devices.synapses import WeightNoise


@dataclass(frozen=True)
class Preset:
    """A named device.

    Attributes:
        name: as on the command line.
        summary: one line.
        wrap: (layer, device seed, cycle seed) → the layer on the device. The device seed sets what
            is fixed per chip, the cycle seed the noise in time.
        spread: True if devices differ from chip to chip, so that the device seed matters.
    """

    name: str
    summary: str
    wrap: Callable[[nn.Module, int, int], Wrapper]
    spread: bool = False


def _pcm(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    pcm = PCM(time=60.0, device_seed=device, seed=cycle)
    return _tile(Noisy(layer, pcm, seed=cycle), device, cycle)


def _reram(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    return _tile(Noisy(layer, ReRAM(seed=cycle), WeightNoise(0.01), seed=cycle), device, cycle)


def _tile(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    return Periphery(layer, device_seed=device, seed=cycle)


def _mtj(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    return Noisy(layer, Telegraph(seed=cycle))


def _photonic(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    return Noisy(layer, Shot(100.0, seed=cycle), AdditiveGaussian(0.05, seed=cycle))


SPREAD = 0.3
"""Spread of weights, gains and offsets of the distorted device, as of the chips that are boxes."""


def _distorted(layer: nn.Module, device: int, cycle: int) -> Wrapper:
    channels = -1 if isinstance(layer, nn.Linear) else 1
    return Noisy(
        layer,
        WeightSpread(SPREAD, device_seed=device),
        GainOffset(SPREAD, SPREAD, dim=channels, device_seed=device),
        AdditiveGaussian(0.1, seed=cycle),
        seed=cycle,
    )


PRESETS: Registry[Preset] = Registry(
    "device preset",
    (
        Preset(
            "pcm",
            "phase-change memory a minute after writing: programming noise, drift, 1/f read noise",
            _pcm,
            spread=True,
        ),
        Preset(
            "reram",
            "resistive memory a second after writing: programming noise, 1 % read noise",
            _reram,
        ),
        Preset(
            "mtj",
            "magnetic tunnel junctions: telegraph noise, correlated in time, at every node",
            _mtj,
        ),
        Preset(
            "distorted",
            "weights, gains and offsets that differ by 0.3 from what was written; read noise 0.1",
            _distorted,
            spread=True,
        ),
        Preset(
            "photonic",
            "light: shot noise of 100 quanta per unit and thermal noise 0.05, about 3 bits",
            _photonic,
        ),
    ),
)


class Chip:
    """Puts each layer that it is called with on one simulated chip.

    Args:
        preset: a key of `PRESETS`.
        device_seed: of the device-to-device variation: the same seed gives the same chip.
        cycle_seed: of the noise in time: the same seed gives the same noise.

    Raises:
        InputError: for an unknown preset, or a negative seed.

    >>> chip = Chip("pcm", device_seed=3)
    >>> net = nn.Sequential(chip(nn.Linear(4, 8)), nn.ReLU(), chip(nn.Linear(8, 2)))
    >>> import torch
    >>> net(torch.ones(5, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(self, preset: str = "pcm", *, device_seed: int = 0, cycle_seed: int = 0) -> None:
        not_negative(device_seed=device_seed, cycle_seed=cycle_seed)
        self.preset = PRESETS[preset]
        self._device = np.random.SeedSequence(device_seed)
        self._cycle = np.random.SeedSequence(cycle_seed)

    def __call__(self, layer: nn.Module) -> Wrapper:
        """Return the next layer on its device, with seeds of its own."""
        device, cycle = (
            int(s.spawn(1)[0].generate_state(1)[0]) for s in (self._device, self._cycle)
        )
        return self.preset.wrap(layer, device, cycle)
