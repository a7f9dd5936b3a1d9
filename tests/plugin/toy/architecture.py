"""An architecture: one hidden layer of twice the width that is given."""

from torch import nn

from noisynets import register
from noisynets.systems.catalogue import Architecture
from noisynets.systems.models.build import dressed


def wide(input_shape, outputs, settings, unit="leaky"):
    inputs, width = 1, 2 * settings.widths[0]
    for size in input_shape:
        inputs *= size
    layers = [nn.utils.skip_init(nn.Linear, inputs, width)]
    layers.append(nn.utils.skip_init(nn.Linear, width, outputs))
    (hidden, units), (last, _) = dressed(layers, settings, unit)
    return nn.Sequential(nn.Flatten(), hidden, units, last)


def plug_in():
    summary = "one hidden layer of twice the width"
    register("architecture", Architecture("toy-net", summary, wide, hidden=(8,), spiking=(8,)))
