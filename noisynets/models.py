"""Reference networks, built from settings and a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn.utils import skip_init

from noisynets.devices import PRESETS, AdditiveGaussian, Chip, During, Noisy, TrialGaussian
from noisynets.errors import InputError, unknown
from noisynets.spiking import (
    READOUTS,
    Alpha,
    EscapeRate,
    Lapicque,
    Leaky,
    Neuron,
    NoisyThreshold,
    Recurrent,
    Spiking,
    Synaptic,
    Threshold,
)
from noisynets.types import Wrapper
from noisynets.units import Bernoulli, Quantiser, Sign, Step


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
        freeze_hidden: train the output layer alone, on what the hidden layers happen to compute.
        weight_seed: of the initial weights.
        noise_seed: of the system's own noise, of the units, and of a device's noise in time.
        device_seed: of what is fixed when a device is made.
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
    freeze_hidden: bool = False
    weight_seed: int = 0
    noise_seed: int = 0
    device_seed: int = 0

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


UNITS: dict[str, Unit] = {
    "leaky": leaky,
    "sign": lambda build, seed: Sign(),
    "step": lambda build, seed: Step(),
    "bernoulli": lambda build, seed: Bernoulli(build.temperature, seed),
    "quantised": lambda build, seed: Quantiser(build.bits),
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


def mlp(
    input_shape: Sequence[int],
    outputs: int,
    build: Build,
    unit: str = "leaky",
    recurrent: bool = False,
) -> nn.Sequential:
    """Flatten, then Linear and units for every hidden width, then Linear.

    Recurrent: the units are neurons, whose spikes come back to their layer in the next step.

    >>> mlp((1, 28, 28), 10, Build(hidden=(64, 64)))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    widths = [math.prod(input_shape), *build.hidden, outputs]
    layers = [
        skip_init(nn.Linear, n_in, n_out) for n_in, n_out in zip(widths, widths[1:], strict=False)
    ]
    loops = [skip_init(nn.Linear, n, n) for n in build.hidden if recurrent]
    return _assemble(layers, build, UNITS[unit], flatten_at=0, loops=loops)


def conv(
    input_shape: Sequence[int], outputs: int, build: Build, unit: str = "leaky"
) -> nn.Sequential:
    """Convolutions of 3×3, stride 2, one for every hidden width, with units; then Linear.

    >>> conv((1, 28, 28), 10, Build(hidden=(8, 16)))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    if len(input_shape) != 3:
        raise InputError(
            f"inputs of shape {tuple(input_shape)}: a convolutional system needs pictures, "
            "(channels, height, width)"
        )
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for n in build.hidden:
        layers.append(skip_init(nn.Conv2d, channels, n, 3, stride=2, padding=1))
        channels, height, width = n, (height + 1) // 2, (width + 1) // 2
    layers.append(skip_init(nn.Linear, channels * height * width, outputs))
    return _assemble(layers, build, UNITS[unit], flatten_at=len(layers) - 1)


def lif(input_shape: Sequence[int], outputs: int, build: Build) -> Spiking:
    """Spiking perceptron: neurons behind every hidden layer, and a read-out of the last one.

    >>> lif((1, 28, 28), 10, Build(hidden=(64,), steps=5))(torch.zeros(2, 1, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    return _spiking(mlp(input_shape, outputs, build, unit="spiking"), build)


def lif_conv(input_shape: Sequence[int], outputs: int, build: Build) -> Spiking:
    """Spiking convolutional network, of the layers of `conv`.

    >>> lif_conv((1, 28, 28), 10, Build(hidden=(4,), steps=5))(torch.zeros(2, 1, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    return _spiking(conv(input_shape, outputs, build, unit="spiking"), build)


def rlif(input_shape: Sequence[int], outputs: int, build: Build) -> Spiking:
    """Recurrent spiking perceptron: the spikes of every hidden layer come back to it.

    >>> rlif((4,), 3, Build(hidden=(8,), steps=5))(torch.zeros(2, 1, 4)).shape
    torch.Size([2, 3])
    """
    return _spiking(mlp(input_shape, outputs, build, unit="spiking", recurrent=True), build)


def _spiking(network: nn.Sequential, build: Build) -> Spiking:
    """Run a network through trials, and read it out."""
    readout = READOUTS[build.readout](neurons(build, build.noise_seed + 200), build.beta)
    return Spiking(network, build.steps or None, readout)


def _assemble(
    layers: Sequence[nn.Module],
    build: Build,
    unit: Unit,
    flatten_at: int,
    loops: Sequence[nn.Module] = (),
) -> nn.Sequential:
    """Initialise the layers, put them on their device, and units and a flattening between them.

    Loops are layers that lead back, one for each hidden layer.
    """
    initialise_(layers, build)
    if loops:
        seed = build.weight_seed + 1_000_003
        initialise_(loops, replace(build, init="lecun", output_scale=1.0, weight_seed=seed))
    chip = _chip(build)
    modules: list[nn.Module] = []
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        if build.freeze_hidden and not last:
            layer.requires_grad_(False)
            nn.ModuleList(loops).requires_grad_(False)
        if i == flatten_at:
            modules.append(nn.Flatten())
        modules.append(_on_device(layer, build, chip, seed=build.noise_seed + i))
        if last:
            break
        units = unit(build, build.noise_seed + len(layers) + i)
        if loops:
            assert isinstance(units, Neuron), "only neurons live in time"
            loop = _on_device(loops[i], build, chip, seed=build.noise_seed + 100 + i)
            units = Recurrent(units, loop)
        modules.append(units)
    return nn.Sequential(*modules)


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
def initialise_(layers: Sequence[nn.Module], build: Build) -> None:
    """Draw normal weights and set zero biases; scale the last layer's weights."""
    generator = torch.Generator().manual_seed(build.weight_seed)
    for layer in layers:
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        fan_in = weight[0].numel()
        fan_out = weight.numel() // weight.shape[1]
        std = INITIALISATIONS[build.init](fan_in, fan_out)
        weight.normal_(0, std, generator=generator)
        bias.zero_()
    weight.mul_(build.output_scale)
