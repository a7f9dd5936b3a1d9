"""When the devices of a layer will be worn out, as far as their writes so far tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from noisynets.core.errors import InputError
from noisynets.systems.pulses.layer import pulsed_layers


@dataclass(frozen=True)
class Wear:
    """How far the most-written device of a layer is from its endurance.

    Attributes:
        endurance: pulses after which a device does not change any more.
        largest: pulses of the device that had the most.
        worn: devices whose endurance is used up.
        devices: of the layer, second ones of optimisers included.
        steps_left: until the first device is worn out, at its mean pulses per step so far; infinite
            if no device was written.
    """

    endurance: int
    largest: int
    worn: int
    devices: int
    steps_left: float


def wear(system: nn.Module, steps: int) -> dict[str, Wear]:
    """Return the wear of every pulsed layer whose devices have an endurance, by path.

    Args:
        system: with pulsed layers, or without.
        steps: in which the pulses so far were given.

    Raises:
        InputError: for fewer steps than one.

    >>> import torch
    >>> from noisynets.systems.pulses.layer import Pulsed
    >>> from noisynets.systems.pulses.presets import PULSED
    >>> from noisynets.systems.pulses.varied import varied
    >>> layer = Pulsed(nn.Linear(2, 1), varied(PULSED["ideal"], endurance=100))
    >>> layer.pulse_(torch.tensor([[10, 4]]))
    >>> wear(layer, steps=2)[""].steps_left
    18.0
    """
    if steps < 1:
        raise InputError(f"{steps} steps: wear is extrapolated from at least one")
    found = {}
    for name, layer in pulsed_layers(system).items():
        endurance = layer.array.device.endurance
        if endurance is None:
            continue
        made = [array for array in (layer.array, layer.fast) if array.made]
        largest = max(int(array.pulses.max()) for array in made)
        found[name] = Wear(
            endurance=endurance,
            largest=largest,
            worn=sum(array.worn for array in made),
            devices=sum(array.pulses.numel() for array in made),
            steps_left=steps * (endurance - largest) / largest if largest else math.inf,
        )
    return found
