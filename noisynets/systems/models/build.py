"""Layers and units of a reference network, made from its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import generator
from noisynets.core.registry import Registry
from noisynets.core.seeds import salted
from noisynets.core.types import Wrapper
from noisynets.core.values import part, refuse
from noisynets.systems.devices import AdditiveGaussian, Chip, During, Noisy, TrialGaussian
from noisynets.systems.initialisation import INITIALISATIONS
from noisynets.systems.pulses import Pulsed
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.spiking import FIRINGS, NEURONS, Neuron, Recurrent
from noisynets.systems.units import Bernoulli, Quantiser, Sign, Step, StraightThrough

Unit = Callable[[NetworkSettings, int], nn.Module]
"""(settings, seed) → the units behind one hidden layer."""

Norm = Callable[[int], nn.Module]
"""channels → the normalisation of activities (B, channels, ...)."""


def group_norm(channels: int) -> nn.Module:
    """GroupNorm (Wu and He, 2018) of eight groups, or as many as divide the channels.

    >>> group_norm(12).num_groups, group_norm(64).num_groups
    (4, 8)
    """
    return nn.GroupNorm(math.gcd(8, channels), channels)


def leaky(build: NetworkSettings, seed: int) -> nn.Module:
    """LeakyReLU."""
    return nn.LeakyReLU(build.slope)


def gelu(build: NetworkSettings, seed: int) -> nn.Module:
    """GELU (Hendrycks and Gimpel, 2016)."""
    return nn.GELU()


def hard(unit: Unit, soft: Callable[[NetworkSettings, Tensor], Tensor]) -> Unit:
    """Return a unit that has `soft` for backpropagation to go through, if that is what is built."""

    def made(build: NetworkSettings, seed: int) -> nn.Module:
        found = unit(build, seed)
        return StraightThrough(found, partial(soft, build)) if build.straight_through else found

    return made


UNITS: Registry[Unit] = Registry(
    "unit",
    {
        "leaky": leaky,
        "gelu": gelu,
        "sign": hard(lambda build, seed: Sign(), lambda build, a: a.clamp(-1, 1)),
        "step": hard(lambda build, seed: Step(), lambda build, a: a.clamp(-1, 1) / 2),
        "bernoulli": hard(
            lambda build, seed: Bernoulli(build.temperature, seed),
            lambda build, a: (a / build.temperature).sigmoid(),
        ),
        "quantised": hard(
            lambda build, seed: Quantiser(build.bits), lambda build, a: a.clamp(-1, 1)
        ),
        "spiking": lambda build, seed: neurons(build, seed),
    },
)


def neurons(build: NetworkSettings, seed: int) -> Neuron:
    """Spiking neurons."""
    model = NEURONS[build.neuron]
    reset: dict[str, Any] = {} if build.reset is None else {"reset": build.reset}
    if build.reset == "zero" and model.at_once:
        reset["reset_delay"] = False
    return model.make(
        build.beta,
        threshold=build.threshold,
        firing=FIRINGS[build.firing](build.firing_noise, seed),
        membrane_noise=build.membrane_noise,
        seed=seed,
        **reset,
    )


def dressed(
    layers: Sequence[nn.Module],
    build: NetworkSettings,
    unit: str | Unit,
    loops: Sequence[nn.Module] = (),
    residual: Sequence[int] = (),
    norm: Norm | None = None,
) -> list[tuple[nn.Module, nn.Module]]:
    """Initialise layers, put each on its device, and make the units that follow it.

    Args:
        layers: in the order of the forward pass; the last is the output's.
        build: settings.
        unit: a key of `UNITS`, or a maker of units.
        loops: layers that lead back from units to themselves, one for each hidden layer.
        residual: places of layers that end a residual branch.
        norm: of the channels that enter the units, in software; None: none.

    Returns:
        Every layer with its units, and the norm before them; the identity behind the last.
    """
    refuse(build, NetworkSettings)
    initialise_(layers, build, residual)
    if loops:
        seed = salted(build.weight_seed, "recurrent weights")
        plain = part(build, NetworkSettings, init="lecun", output_scale=1.0, weight_seed=seed)
        initialise_(loops, plain)
    make = UNITS[unit] if isinstance(unit, str) else unit
    chip = _chip(build)
    found: list[tuple[nn.Module, nn.Module]] = []
    for i, layer in enumerate(layers):
        last = i == len(layers) - 1
        if build.freeze_hidden and not last:
            layer.requires_grad_(False)
            nn.ModuleList(loops).requires_grad_(False)
        node = _on_device(layer, build, chip, seed=salted(build.noise_seed, f"layer {i}"))
        node = _pulsed(node, layer, build, f"layer {i}")
        if last:
            return [*found, (node, nn.Identity())]
        units = make(build, salted(build.noise_seed, f"units {i}"))
        if loops:
            if not isinstance(units, Neuron):
                raise InputError("recurrent layers need spiking neurons as their units")
            seed = salted(build.noise_seed, f"recurrent layer {i}")
            loop = _on_device(loops[i], build, chip, seed)
            loop = _pulsed(loop, loops[i], build, f"recurrent layer {i}")
            units = Recurrent(units, loop)
        if norm is not None:
            normalised = norm(len(layer.get_parameter("weight")))
            normalised.requires_grad_(not build.freeze_hidden)
            units = nn.Sequential(normalised, units)
        found.append((node, units))
    return found


TABLE_NOISE = 0.05
"""σ of the noise with which a table of symbols is read beside a chip, which does not hold it.

Without any, the mirrors of the layers behind the table would see no differences.
"""


def _chip(build: NetworkSettings) -> Chip | None:
    if build.preset is None:
        return None
    return Chip(build.preset, device_seed=build.device_seed, cycle_seed=build.noise_seed)


def _on_device(layer: nn.Module, build: NetworkSettings, chip: Chip | None, seed: int) -> nn.Module:
    table = isinstance(layer, nn.Embedding)
    node: nn.Module = layer if chip is None or table else chip(layer)
    sigma = build.own_noise or (TABLE_NOISE if chip is not None and table else 0.0)
    if sigma:
        kind = TrialGaussian if build.noise_over == "trial" else AdditiveGaussian
        node = Noisy(node, kind(sigma, seed))
    if isinstance(node, Wrapper) and build.noise_during != "both":
        node = During(build.noise_during, node)
    return node


def _pulsed(node: nn.Module, layer: nn.Module, build: NetworkSettings, place: str) -> nn.Module:
    """Put the weights of a layer on pulsed devices; a table of symbols is read beside them."""
    device = build.pulsed_device
    if device is None or isinstance(layer, nn.Embedding):
        return node
    purpose = f"pulsed devices of {place}"
    return Pulsed(
        node,
        device,
        device_seed=salted(build.device_seed, purpose),
        seed=salted(build.noise_seed, purpose),
    )


@torch.no_grad()
def initialise_(
    layers: Sequence[nn.Module], build: NetworkSettings, residual: Sequence[int] = ()
) -> None:
    """Draw normal weights and set zero biases; scale the last layer's weights.

    A table of symbols has a fan-in of 1, as one symbol is read at a time, and a standard deviation
    of 1 at most.
    Layers that end one of n residual branches are divided by √n, so that the variance of what
    goes on does not grow with their number (as Zhang, Dauphin and Ma, 2019, without its zeros).
    """
    drawn_by = generator(build.weight_seed, "initial weights")
    for i, layer in enumerate(layers):
        weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
        table = isinstance(layer, nn.Embedding)
        fan_in = 1 if table else weight[0].numel()
        fan_out = weight.numel() // (weight.shape[0] if table else weight.shape[1])
        std = INITIALISATIONS[build.init](fan_in, fan_out)
        std = min(std, 1.0) if table else std
        std *= len(residual) ** -0.5 if i in residual else 1.0
        weight.normal_(0, std, generator=drawn_by)
        if bias is not None:
            bias.zero_()
    weight.mul_(build.output_scale)
