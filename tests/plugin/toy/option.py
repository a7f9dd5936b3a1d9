"""A command-line option, and the family whose units use it."""

import torch
from torch import nn

from noisynets import register
from noisynets.core.settings import option
from noisynets.systems.catalogue import Family


class Wobble(nn.Module):
    def __init__(self, height):
        super().__init__()
        self.height = height

    def forward(self, a):
        return a + self.height * torch.sin(a)


def unit(settings, seed):
    return Wobble(settings.option("wobble"))


def plug_in():
    height = option("wobble", 0.1, "Height of the wobble.", group="what is trained", at_least=0)
    register("setting", height)
    register("family", Family("wobbly", "wobbly units", unit=unit, settings=("wobble",)))
