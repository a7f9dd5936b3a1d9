"""Pulsed devices, and optimisers that write by pulses."""

from noisynets.systems.pulses.accumulating import MixedPrecisionSGD, ThresholdSGD
from noisynets.systems.pulses.array import PulsedArray
from noisynets.systems.pulses.counts import Writes, writes, writes_per_weight
from noisynets.systems.pulses.device import PulsedDevice
from noisynets.systems.pulses.layer import Pulsed, pulsed_layers
from noisynets.systems.pulses.optimiser import PulseOptimiser
from noisynets.systems.pulses.presets import PULSED
from noisynets.systems.pulses.sgd import PulsedSGD
from noisynets.systems.pulses.transfer import AGAD, ChoppedTTv2, TikiTaka, TTv2
from noisynets.systems.pulses.updates import UPDATES, Update, UpdateRates

__all__ = [
    "AGAD",
    "PULSED",
    "UPDATES",
    "ChoppedTTv2",
    "MixedPrecisionSGD",
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
    "Writes",
    "pulsed_layers",
    "writes",
    "writes_per_weight",
]
