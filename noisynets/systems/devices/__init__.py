"""Device models: noise and other hardware effects on layers, which no training rule can read."""

from noisynets.systems.devices.conductance import StuckAt
from noisynets.systems.devices.converters import ADC, DAC
from noisynets.systems.devices.correlated import Coloured, Telegraph
from noisynets.systems.devices.gaussian import (
    AdditiveGaussian,
    MultiplicativeGaussian,
    Shot,
    TrialGaussian,
)
from noisynets.systems.devices.noisy import During, Noisy
from noisynets.systems.devices.pattern import LazyBuffers, Pattern
from noisynets.systems.devices.pcm import PCM, advance_
from noisynets.systems.devices.periphery import Periphery
from noisynets.systems.devices.presets import PRESETS, Chip
from noisynets.systems.devices.reram import ReRAM
from noisynets.systems.devices.spread import GainOffset, WeightBounds, WeightSpread
from noisynets.systems.devices.synapses import StochasticSynapse, WeightNoise

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
    "LazyBuffers",
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
