"""Reference networks, built from settings and a seed."""

from noisynets.systems.models.boxed import boxed
from noisynets.systems.models.build import UNITS, Norm, Unit, group_norm
from noisynets.systems.models.convolutional import conv, lenet, vgg
from noisynets.systems.models.mixer import MixerBlock, mixer
from noisynets.systems.models.perceptron import mlp
from noisynets.systems.models.residual import Residual, resnet
from noisynets.systems.models.spiking import spiking
from noisynets.systems.models.transformer import gpt, vit

__all__ = [
    "UNITS",
    "MixerBlock",
    "Norm",
    "Residual",
    "Unit",
    "boxed",
    "conv",
    "gpt",
    "group_norm",
    "lenet",
    "mixer",
    "mlp",
    "resnet",
    "spiking",
    "vgg",
    "vit",
]
