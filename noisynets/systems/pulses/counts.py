"""How often the devices of a system have been written."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from noisynets.core.errors import InputError
from noisynets.systems.pulses.layer import Pulsed, pulsed_layers


@dataclass(frozen=True)
class Writes:
    """Pulses that a layer has been given since it was put on its devices.

    Attributes:
        pulses: sum over all devices of the layer, the second ones of optimisers included.
        weights: of the layer.
        largest: pulses of the device that had the most.
        worn: devices whose endurance is used up.
        energy: of all pulses, in joules; None: no source gives that of one.
    """

    pulses: int
    weights: int
    largest: int
    worn: int
    energy: float | None

    @property
    def per_weight(self) -> float:
        """Pulses, divided by the number of weights."""
        return self.pulses / self.weights


def writes(system: nn.Module) -> dict[str, Writes]:
    """Return the writes of every pulsed layer, by path.

    Raises:
        InputError: if the weights of one were changed by anything but pulses.

    >>> import torch
    >>> net = nn.Sequential(Pulsed(nn.Linear(2, 1), "ideal"))
    >>> net[0].pulse_(torch.tensor([[3, -1]]))
    >>> writes(net)["0"].pulses, writes_per_weight(net)
    (4, 2.0)
    """
    return {name: _of(layer) for name, layer in pulsed_layers(system).items()}


def writes_per_weight(system: nn.Module) -> float:
    """Return the pulses of all pulsed layers, divided by the number of their weights.

    Raises:
        InputError: if there are no pulsed layers.
    """
    found = writes(system).values()
    if not found:
        raise InputError(f"{type(system).__name__} has no pulsed layers: nothing is written")
    return sum(each.pulses for each in found) / sum(each.weights for each in found)


def _of(layer: Pulsed) -> Writes:
    layer.check_held()
    made = [array for array in (layer.array, layer.fast) if array.made]
    pulses = sum(int(array.pulses.sum()) for array in made)
    energy = layer.array.device.energy
    return Writes(
        pulses=pulses,
        weights=layer.weight.numel(),
        largest=max(int(array.pulses.max()) for array in made),
        worn=sum(array.worn for array in made),
        energy=None if energy is None else pulses * energy,
    )
