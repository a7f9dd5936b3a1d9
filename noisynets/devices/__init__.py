"""Noise and other effects of a system's own, which the trainer can neither read nor stop."""

from noisynets.devices.conductance import StuckAt
from noisynets.devices.converters import ADC, DAC
from noisynets.devices.correlated import Coloured, Telegraph
from noisynets.devices.gaussian import (
    AdditiveGaussian,
    MultiplicativeGaussian,
    Shot,
    TrialGaussian,
)
from noisynets.devices.noisy import During, Noisy
from noisynets.devices.pattern import Keeps, Pattern
from noisynets.devices.pcm import PCM, advance_
from noisynets.devices.periphery import Periphery
from noisynets.devices.presets import PRESETS, Chip
from noisynets.devices.reram import ReRAM
from noisynets.devices.spread import GainOffset, WeightBounds, WeightSpread
from noisynets.devices.synapses import StochasticSynapse, WeightNoise

__all__ = [
    "ADC",
    "DAC",
    "PCM",
    "PRESETS",
    "AdditiveGaussian",
    "Chip",
    "Coloured",
    "During",
    "GainOffset",
    "Keeps",
    "MultiplicativeGaussian",
    "Noisy",
    "Pattern",
    "Periphery",
    "ReRAM",
    "Shot",
    "StochasticSynapse",
    "StuckAt",
    "Telegraph",
    "TrialGaussian",
    "WeightBounds",
    "WeightNoise",
    "WeightSpread",
    "advance_",
]
