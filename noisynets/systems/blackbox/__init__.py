"""Black boxes: hardware and external simulators, and the contract for training them."""

from noisynets.core.errors import BoxFailed
from noisynets.systems.blackbox.contract import (
    Box,
    Layer,
    Measured,
    Reading,
    Weights,
)
from noisynets.systems.blackbox.examine import Finding, examine, failed
from noisynets.systems.blackbox.model_based import (
    HardwareAware,
    PhysicsAware,
    box_model,
    tie_weights,
)
from noisynets.systems.blackbox.module import BlackBox, BoxLayer
from noisynets.systems.blackbox.nengo_box import NengoBox
from noisynets.systems.blackbox.numpy_chip import NumpyChip, SpikingChip, layers_of
from noisynets.systems.blackbox.process import ProcessBox
from noisynets.systems.blackbox.readings import checked
from noisynets.systems.blackbox.serve import serve
from noisynets.systems.blackbox.tiles import PERFECT, Distortions

__all__ = [
    "PERFECT",
    "HardwareAware",
    "BlackBox",
    "Box",
    "BoxFailed",
    "Distortions",
    "Finding",
    "Layer",
    "Measured",
    "NengoBox",
    "NumpyChip",
    "PhysicsAware",
    "ProcessBox",
    "Reading",
    "BoxLayer",
    "SpikingChip",
    "Weights",
    "box_model",
    "checked",
    "examine",
    "failed",
    "layers_of",
    "serve",
    "tie_weights",
]
