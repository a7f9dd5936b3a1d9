"""Black boxes: systems that torch does not see, and the contract by which they are trained."""

from noisynets.blackbox.contract import (
    Box,
    Layer,
    Measured,
    Reading,
    Weights,
    problems,
)
from noisynets.blackbox.examine import Finding, examine, failed
from noisynets.blackbox.module import BlackBox, Socket
from noisynets.blackbox.nengo_box import NengoBox
from noisynets.blackbox.numpy_chip import NumpyChip, SpikingChip, layers_of
from noisynets.blackbox.offline import Aware, PhysicsAware, believed, tied
from noisynets.blackbox.process import ProcessBox
from noisynets.blackbox.serve import serve
from noisynets.blackbox.tiles import PERFECT, Distortions
from noisynets.errors import BoxFailed

__all__ = [
    "PERFECT",
    "Aware",
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
    "Socket",
    "SpikingChip",
    "Weights",
    "believed",
    "examine",
    "failed",
    "layers_of",
    "problems",
    "serve",
    "tied",
]
