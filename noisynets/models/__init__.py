"""Reference networks, built from settings and a seed."""

from noisynets.models.boxed import boxed
from noisynets.models.build import FIRINGS, INITIALISATIONS, NEURONS, UNITS, Build
from noisynets.models.convolutional import conv, lenet, vgg
from noisynets.models.perceptron import mlp
from noisynets.models.residual import Residual, resnet
from noisynets.models.spiking import spiking

__all__ = [
    "FIRINGS",
    "INITIALISATIONS",
    "NEURONS",
    "UNITS",
    "Build",
    "Residual",
    "boxed",
    "conv",
    "lenet",
    "mlp",
    "resnet",
    "spiking",
    "vgg",
]
