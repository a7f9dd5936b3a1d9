"""Spiking networks: neurons, when they fire, what goes in and what comes out of a trial."""

from noisynets.spiking.adapt import adapt
from noisynets.spiking.encoders import ENCODERS, current, delta, frames, latency, rate
from noisynets.spiking.firing import EscapeRate, NoisyThreshold, Threshold
from noisynets.spiking.network import Spiking
from noisynets.spiking.neurons import (
    Alpha,
    Cleared,
    Lapicque,
    Leaky,
    Neuron,
    OneToOne,
    Recurrent,
    Synaptic,
)
from noisynets.spiking.readouts import (
    READOUTS,
    FirstSpike,
    MeanMembrane,
    MeanOutput,
    Readout,
    SpikeCount,
)
from noisynets.spiking.record import Recording, record
from noisynets.trial import trial

__all__ = [
    "ENCODERS",
    "READOUTS",
    "Alpha",
    "Cleared",
    "EscapeRate",
    "FirstSpike",
    "Lapicque",
    "Leaky",
    "MeanMembrane",
    "MeanOutput",
    "Neuron",
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
