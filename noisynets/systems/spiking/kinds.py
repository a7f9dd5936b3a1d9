"""Neurons and ways to fire that settings can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from noisynets.core.registry import Registry
from noisynets.systems.spiking.firing import EscapeRate, NoisyThreshold, Threshold
from noisynets.systems.spiking.neurons import Alpha, Lapicque, Leaky, Neuron, Synaptic

ALPHA = 0.8
"""Share of a synaptic current that is left after a step."""


@dataclass(frozen=True)
class NeuronModel:
    """A model of neurons that `--neuron` can name.

    Attributes:
        name: as on the command line.
        make: (β, threshold=…, firing=…, membrane_noise=…, seed=…) → the neurons; with --reset also
            reset=…, and reset_delay=False if they are set to zero at once.
        decays: β must lie above 0 and below 1.
        at_once: can be set to zero in the step of a spike.
    """

    name: str
    make: Callable[..., Neuron]
    decays: bool = False
    at_once: bool = True


def _alpha(beta: float, **settings: Any) -> Neuron:
    return Alpha(beta, 0.8 * beta, **settings)


NEURONS: Registry[NeuronModel] = Registry(
    "neuron",
    (
        NeuronModel("leaky", Leaky),
        NeuronModel("lapicque", Lapicque, decays=True),
        NeuronModel("synaptic", partial(Synaptic, ALPHA)),
        NeuronModel("alpha", _alpha, decays=True, at_once=False),
    ),
)
FIRINGS: Registry[Callable[[float, int], nn.Module]] = Registry(
    "firing",
    {
        "threshold": lambda noise, seed: Threshold(),
        "noisy": lambda noise, seed: NoisyThreshold(noise, seed),
        "escape": lambda noise, seed: EscapeRate(noise, seed=seed),
    },
)
"""(firing noise, seed) → from distances to threshold to spikes."""
