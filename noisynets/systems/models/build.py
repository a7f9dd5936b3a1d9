"""Settings of a reference network, and layers and units made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError, unknown
from noisynets.core.types import Wrapper
from noisynets.systems.devices import PRESETS, AdditiveGaussian, Chip, During, Noisy, TrialGaussian
from noisynets.systems.spiking import (
    READOUTS,
    Alpha,
    EscapeRate,
    Lapicque,
    Leaky,
    Neuron,
    NoisyThreshold,
    Recurrent,
    Synaptic,
    Threshold,
)
from noisynets.systems.units import Bernoulli, Quantiser, Sign, Step, StraightThrough


def he(fan_in: int, fan_out: int) -> float:
    """√(2/fan_in), the standard deviation of He et al. (2015)."""
    return math.sqrt(2 / fan_in)


def lecun(fan_in: int, fan_out: int) -> float:
    """√(1/fan_in), the standard deviation of LeCun et al. (1998)."""
    return math.sqrt(1 / fan_in)


def xavier(fan_in: int, fan_out: int) -> float:
    """√(2/(fan_in + fan_out)), the standard deviation of Glorot and Bengio (2010)."""
    return math.sqrt(2 / (fan_in + fan_out))


INITIALISATIONS: dict[str, Callable[[int, int], float]] = {
    "he": he,
    "lecun": lecun,
    "xavier": xavier,
}


@dataclass(frozen=True)
class Build:
    """Settings of a reference network.

    Attributes:
        hidden: widths of the hidden layers; channels, for a convolutional network.
        slope: of the LeakyReLU for negative activities.
        init: name of the weights' initialisation, normal around 0, a key of `INITIALISATIONS`.
        output_scale: factor on the output layer's initial weights.
        bits: of the quantised units.
        temperature: of the Bernoulli units, in units of the activity.
        steps: T of a trial; 0: as many as the input has.
        neuron: of spiking layers, a key of `NEURONS`.
        beta: share of a membrane potential that is left after a step.
        threshold: at which neurons fire.
        firing: how neurons fire, a key of `FIRINGS`.
        firing_noise: in units of the potential: σ of a noisy threshold, Δ of an escape rate.
        membrane_noise: σ of what is added to membrane potentials in every step.
        readout: of spiking networks, a key of `READOUTS`.
        intrinsic_noise: standard deviation of the system's own Gaussian noise at every node,
            in units of the activity; 0: none.
        noise_over: whether that is drawn anew in every 'step' of a trial, or once per 'trial'.
        device_preset: device that every layer is put on, a key of `PRESETS`; None: none.
        noise_during: 'training', 'evaluation' or 'both': when noise and devices act.
        straight_through: give units without a useful derivative one for backpropagation.
        freeze_hidden: train the output layer alone, on what the hidden layers happen to compute.
        weight_seed: of the initial weights.
        noise_seed: of the system's own noise, of the units, and of a device's noise in time.
        device_seed: of what is fixed when a device is made.
        spread: of the weights, gains and offsets of a boxed chip.
        box: command of a boxed chip in a process of its own; None: a simulated one.
    """

    hidden: Sequence[int]
    slope: float = 0.2
    init: str = "he"
    output_scale: float = 1.0
    bits: int = 4
    temperature: float = 0.2
    steps: int = 0
    neuron: str = "leaky"
    beta: float = 0.9
    threshold: float = 1.0
    firing: str = "threshold"
    firing_noise: float = 0.1
    membrane_noise: float = 0.0
    readout: str = "membrane"
    intrinsic_noise: float = 0.0
    noise_over: str = "step"
    device_preset: str | None = None
    noise_during: str = "both"
    straight_through: bool = False
    freeze_hidden: bool = False
    weight_seed: int = 0
    noise_seed: int = 0
    device_seed: int = 0
    spread: float = 0.3
    box: str | None = None

    def __post_init__(self) -> None:
        if self.device_preset is not None and self.device_preset not in PRESETS:
            raise unknown("device preset", self.device_preset, PRESETS)
        if self.init not in INITIALISATIONS:
            raise unknown("initialisation", self.init, INITIALISATIONS)
        for kind, name, known in (
            ("neuron", self.neuron, NEURONS),
            ("firing", self.firing, FIRINGS),
            ("read-out", self.readout, READOUTS),
        ):
            if name not in known:
                raise unknown(kind, name, known)
        if any(width < 1 for width in self.hidden):
            raise InputError(f"hidden {tuple(self.hidden)}: every width must be at least 1")


Unit = Callable[[Build, int], nn.Module]
"""(settings, seed) → the units behind one hidden layer."""


def leaky(build: Build, seed: int) -> nn.Module:
    """LeakyReLU."""
    return nn.LeakyReLU(build.slope)


def hard(unit: Unit, soft: Callable[[Build, Tensor], Tensor]) -> Unit:
    """Return a unit that has `soft` for backpropagation to go through, if that is what is built."""

    def made(build: Build, seed: int) -> nn.Module:
        found = unit(build, seed)
        return StraightThrough(found, partial(soft, build)) if build.straight_through else found

    return made


UNITS: dict[str, Unit] = {
    "leaky": leaky,
    "sign": hard(lambda build, seed: Sign(), lambda build, a: a.clamp(-1, 1)),
    "step": hard(lambda build, seed: Step(), lambda build, a: a.clamp(-1, 1) / 2),
    "bernoulli": hard(
        lambda build, seed: Bernoulli(build.temperature, seed),
        lambda build, a: (a / build.temperature).sigmoid(),
    ),
    "quantised": hard(lambda build, seed: Quantiser(build.bits), lambda build, a: a.clamp(-1, 1)),
    "spiking": lambda build, seed: neurons(build, seed),
}

ALPHA = 0.8  # share of a synaptic current that is left after a step
NEURONS: dict[str, Callable[..., Neuron]] = {
    "leaky": Leaky,
    "lapicque": Lapicque,
    "synaptic": partial(Synaptic, ALPHA),
    "alpha": lambda beta, **settings: Alpha(beta, 0.8 * beta, **settings),
}
FIRINGS: dict[str, Callable[[float, int], nn.Module]] = {
    "threshold": lambda noise, seed: Threshold(),
    "noisy": NoisyThreshold,
    "escape": lambda noise, seed: EscapeRate(noise, seed=seed),
}


def neurons(build: Build, seed: int) -> Neuron:
    """Spiking neurons."""
    return NEURONS[build.neuron](
        build.beta,
        threshold=build.threshold,
        firing=FIRINGS[build.firing](build.firing_noise, seed),
        membrane_noise=build.membrane_noise,
        seed=seed + 500_000,
    )


def dressed(
    layers: Sequence[nn.Module],
    build: Build,
    unit: str,
    loops: Sequence[nn.Module] = (),
    residual: Sequence[int] = (),
) -> list[tuple[nn.Module, nn.Module]]:
    """Initialise layers, put each on its device, and make the units that follow it.

    Args:
        layers: in the order of the forward pass; the last is the output's.
        build: settings.
        unit: a key of `UNITS`.
        loops: layers that lead back from units to themselves, one for each hidden layer.
        residual: places of layers that end a residual branch.

    Returns:
        Every layer with its units; the identity behind the last.
    """
    initialise_(layers, build, residual)
    if loops:
        seed = build.weight_seed + 1_000_003
        initialise_(loops, replace(build, init="lecun", output_scale=1.0, weight_seed=seed))
    chip = _chip(build)
    found: list[tuple[nn.Module, nn.Module]] = []
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        if build.freeze_hidden and not last:
            layer.requires_grad_(False)
            nn.ModuleList(loops).requires_grad_(False)
        node = _on_device(layer, build, chip, seed=build.noise_seed + i)
        if last:
            return [*found, (node, nn.Identity())]
        units = UNITS[unit](build, build.noise_seed + len(layers) + i)
        if loops:
            assert isinstance(units, Neuron), "only neurons live in time"
            loop = _on_device(loops[i], build, chip, seed=build.noise_seed + 100 + i)
            units = Recurrent(units, loop)
        found.append((node, units))
    return found


def _chip(build: Build) -> Chip | None:
    if build.device_preset is None:
        return None
    return Chip(build.device_preset, device_seed=build.device_seed, cycle_seed=build.noise_seed)


def _on_device(layer: nn.Module, build: Build, chip: Chip | None, seed: int) -> nn.Module:
    node: nn.Module = layer if chip is None else chip(layer)
    if build.intrinsic_noise:
        kind = TrialGaussian if build.noise_over == "trial" else AdditiveGaussian
        node = Noisy(node, kind(build.intrinsic_noise, seed))
    if isinstance(node, Wrapper) and build.noise_during != "both":
        node = During(build.noise_during, node)
    return node


@torch.no_grad()
def initialise_(layers: Sequence[nn.Module], build: Build, residual: Sequence[int] = ()) -> None:
    """Draw normal weights and set zero biases; scale the last layer's weights.

    Layers that end one of n residual branches are divided by √n, so that the variance of what
    goes on does not grow with their number (as Zhang, Dauphin and Ma, 2019, without its zeros).
    """
    generator = torch.Generator().manual_seed(build.weight_seed)
    for i, layer in enumerate(layers):
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        fan_in = weight[0].numel()
        fan_out = weight.numel() // weight.shape[1]
        std = INITIALISATIONS[build.init](fan_in, fan_out)
        std *= len(residual) ** -0.5 if i in residual else 1.0
        weight.normal_(0, std, generator=generator)
        bias.zero_()
    weight.mul_(build.output_scale)
