"""Spiking networks: neurons, firing mechanisms, encoders of inputs and read-outs of trials."""

from noisynets.core.trial import trial
from noisynets.systems.spiking.adapt import adapt
from noisynets.systems.spiking.encoders import ENCODERS, current, delta, frames, latency, rate
from noisynets.systems.spiking.firing import EscapeRate, NoisyThreshold, Threshold
from noisynets.systems.spiking.kinds import FIRINGS, NEURONS, NeuronModel
from noisynets.systems.spiking.network import Spiking
from noisynets.systems.spiking.neurons import (
    Alpha,
    Lapicque,
    LateResetLeaky,
    Leaky,
    Neuron,
    OneToOne,
    Recurrent,
    Synaptic,
)
from noisynets.systems.spiking.readouts import (
    READOUTS,
    FirstSpike,
    MeanMembrane,
    MeanOutput,
    Readout,
    SpikeCount,
)
from noisynets.systems.spiking.record import Recording, record

__all__ = [
    "ENCODERS",
    "FIRINGS",
    "NEURONS",
    "READOUTS",
    "Alpha",
    "LateResetLeaky",
    "EscapeRate",
    "FirstSpike",
    "Lapicque",
    "Leaky",
    "MeanMembrane",
    "MeanOutput",
    "Neuron",
    "NeuronModel",
    "NoisyThreshold",
    "OneToOne",
    "Readout",
    "Recording",
    "Recurrent",
    "SpikeCount",
    "Spiking",
    "Synaptic",
    "Threshold",
    "adapt",
    "current",
    "delta",
    "frames",
    "latency",
    "rate",
    "record",
    "trial",
]
