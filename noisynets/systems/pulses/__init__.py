"""Pulsed devices, and optimisers that write by pulses."""

from noisynets.systems.pulses.accumulating import MixedPrecisionSGD, ThresholdSGD
from noisynets.systems.pulses.array import Array, PulsedArray
from noisynets.systems.pulses.counts import Writes, writes, writes_per_weight
from noisynets.systems.pulses.device import Device, PulsedDevice
from noisynets.systems.pulses.layer import Pulsed, pulsed_layers
from noisynets.systems.pulses.lifetime import Wear, wear
from noisynets.systems.pulses.made import array_of
from noisynets.systems.pulses.optimiser import PulseOptimiser
from noisynets.systems.pulses.pair import OneSidedPair, PairArray
from noisynets.systems.pulses.presets import PULSED
from noisynets.systems.pulses.sgd import PulsedSGD
from noisynets.systems.pulses.transfer import AGAD, ChoppedTTv2, TikiTaka, TTv2
from noisynets.systems.pulses.updates import UPDATES, Update, UpdateRates
from noisynets.systems.pulses.varied import varied

__all__ = [
    "AGAD",
    "PULSED",
    "UPDATES",
    "Array",
    "ChoppedTTv2",
    "Device",
    "MixedPrecisionSGD",
    "OneSidedPair",
    "PairArray",
    "Pulsed",
    "PulsedArray",
    "PulsedDevice",
    "PulsedSGD",
    "PulseOptimiser",
    "TTv2",
    "ThresholdSGD",
    "TikiTaka",
    "Update",
    "UpdateRates",
    "Wear",
    "Writes",
    "array_of",
    "pulsed_layers",
    "varied",
    "wear",
    "writes",
    "writes_per_weight",
]
