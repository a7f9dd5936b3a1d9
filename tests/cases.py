"""The shared list of cases: layer types, effects, units and small systems."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from own_effect import TwoLevels
from own_unit import Fold
from torch import Tensor, nn

from noisynets.core.decorrelation import decorrelations
from noisynets.rules.credit.mirror import Mirror
from noisynets.systems import units as u
from noisynets.systems.devices import (
    ADC,
    DAC,
    PCM,
    PRESETS,
    AdditiveGaussian,
    Coloured,
    GainOffset,
    MultiplicativeGaussian,
    Noisy,
    Periphery,
    ReRAM,
    Shot,
    StochasticSynapse,
    StuckAt,
    Telegraph,
    WeightBounds,
    WeightNoise,
    WeightSpread,
)


@dataclass(frozen=True)
class LayerCase:
    """A layer and the shape of one of its inputs."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


LAYER_CASES = [
    LayerCase("linear", lambda: nn.Linear(5, 3), (5,)),
    LayerCase("linear without bias", lambda: nn.Linear(5, 3, bias=False), (5,)),
    LayerCase("linear over positions", lambda: nn.Linear(5, 3), (4, 2, 5)),
    LayerCase("conv1d", lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1), (2, 9)),
    LayerCase("conv1d same", lambda: nn.Conv1d(2, 4, 3, padding="same"), (2, 9)),
    LayerCase("conv2d", lambda: nn.Conv2d(2, 4, 3), (2, 6, 5)),
    LayerCase(
        "conv2d stride", lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1), (2, 6, 5)
    ),
    LayerCase("conv2d dilation", lambda: nn.Conv2d(2, 4, 3, dilation=2, padding=2), (2, 6, 7)),
    LayerCase("conv2d groups", lambda: nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 5, 5)),
    LayerCase(
        "conv2d reflect",
        lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        (2, 5, 5),
    ),
    LayerCase("conv2d same", lambda: nn.Conv2d(2, 3, (1, 3), padding="same"), (2, 5, 5)),
    LayerCase("layer norm", lambda: nn.LayerNorm(5), (5,)),
    LayerCase("layer norm, two dimensions", lambda: nn.LayerNorm((4, 5)), (3, 4, 5)),
    LayerCase("layer norm without bias", lambda: nn.LayerNorm(5, bias=False), (2, 5)),
    LayerCase("group norm", lambda: nn.GroupNorm(2, 4), (4, 3, 3)),
]


def around(effect: Callable[[int, int], nn.Module]) -> Callable[[nn.Module, int, int], nn.Module]:
    """Wrap a layer with an effect made from (device seed, cycle seed)."""
    return lambda layer, device, cycle: Noisy(layer, effect(device, cycle), seed=cycle + 100)


@dataclass(frozen=True)
class EffectCase:
    """A device effect.

    wrap makes a layer on the device from (layer, device seed, cycle seed); noisy and spread say
    whether the two seeds make a difference; of_activity makes the effect alone, from the same
    seeds, where it may also follow its layer.
    """

    name: str
    wrap: Callable[[nn.Module, int, int], nn.Module]
    noisy: bool = True
    spread: bool = False
    of_activity: Callable[[int, int], nn.Module] | None = None


def _activity(name: str, make: Callable[[int, int], nn.Module], **flags: bool) -> EffectCase:
    return EffectCase(name, around(make), of_activity=make, **flags)


EFFECT_CASES = [
    _activity("additive", lambda d, c: AdditiveGaussian(0.3, c)),
    _activity("multiplicative", lambda d, c: MultiplicativeGaussian(0.3, c)),
    _activity("shot", lambda d, c: Shot(10.0, c)),
    _activity("telegraph", lambda d, c: Telegraph(0.2, 0.3, seed=c)),
    _activity("coloured", lambda d, c: Coloured(0.2, memory=8, seed=c)),
    _activity(
        "gain and offset",
        lambda d, c: GainOffset(0.3, 0.2, device_seed=d),
        noisy=False,
        spread=True,
    ),
    _activity("adc", lambda d, c: ADC(4, 3.0), noisy=False),
    EffectCase("dac", around(lambda d, c: DAC(3, 2.0)), noisy=False),
    EffectCase("weight noise", around(lambda d, c: WeightNoise(0.1))),
    EffectCase("stochastic synapse", around(lambda d, c: StochasticSynapse(0.5))),
    EffectCase(
        "weight spread", around(lambda d, c: WeightSpread(0.3, d)), noisy=False, spread=True
    ),
    EffectCase(
        "weight bounds", around(lambda d, c: WeightBounds(0.2, 0.5, d)), noisy=False, spread=True
    ),
    EffectCase("stuck", around(lambda d, c: StuckAt(0.2, 0.2, d)), noisy=False, spread=True),
    EffectCase(
        "pcm", around(lambda d, c: PCM(1e5, per_call=9.0, device_seed=d, seed=c)), spread=True
    ),
    EffectCase("reram", around(lambda d, c: ReRAM(seed=c))),
    EffectCase(
        "periphery",
        lambda layer, d, c: Periphery(layer, offset=0.3, nonlinearity=0.1, device_seed=d, seed=c),
        spread=True,
    ),
    *[
        EffectCase(f"preset {preset.name}", preset.wrap, spread=preset.spread)
        for preset in PRESETS.values()
    ],
    EffectCase(
        "several",
        lambda layer, d, c: Noisy(
            Periphery(Noisy(layer, WeightSpread(0.3, d), PCM(device_seed=d, seed=c), seed=c)),
            Telegraph(seed=c + 1),
            ADC(6, 8.0),
        ),
        spread=True,
    ),
    _activity("own example", lambda d, c: TwoLevels(0.3, seed=c)),
]


@dataclass(frozen=True)
class UnitCase:
    """A unit made from a seed, and its mean and variance for one activity."""

    name: str
    make: Callable[[int], nn.Module]
    mean: Callable[[Tensor], Tensor]
    variance: Callable[[Tensor], Tensor] = torch.zeros_like


UNIT_CASES = [
    UnitCase("step", lambda seed: u.Step(0.2), lambda a: torch.heaviside(a - 0.2, a.new_ones(()))),
    UnitCase("sign", lambda seed: u.Sign(), lambda a: torch.where(a < 0, -1.0, 1.0)),
    UnitCase(
        "ternary", lambda seed: u.Ternary(0.5), lambda a: torch.where(a.abs() > 0.5, a.sign(), 0.0)
    ),
    UnitCase(
        "quantiser",
        lambda seed: u.Quantiser(2, -1.5, 1.5),
        lambda a: (a.clamp(-1.5, 1.5) + 1.5).round() - 1.5,
    ),
    UnitCase(
        "k winners",
        lambda seed: u.KWinners(3),
        lambda a: torch.where(a >= a.sort(1, descending=True).values[:, 2:3], a, 0.0),
    ),
    UnitCase(
        "bernoulli",
        lambda seed: u.Bernoulli(0.5, seed),
        lambda a: 1 / (1 + torch.exp(-a / 0.5)),
        lambda a: torch.exp(-a / 0.5) / (1 + torch.exp(-a / 0.5)) ** 2,
    ),
    UnitCase(
        "stochastic rounding",
        lambda seed: u.StochasticRounding(0.5, seed),
        lambda a: a,
        lambda a: 0.25 * (2 * a - (2 * a).floor()) * (1 - 2 * a + (2 * a).floor()),
    ),
    UnitCase(
        "poisson",
        lambda seed: u.Poisson(2.0, seed),
        lambda a: 2 * a.relu(),
        lambda a: 2 * a.relu(),
    ),
    UnitCase(
        "single photon",
        lambda seed: u.SinglePhoton(seed),
        lambda a: 1 - torch.exp(-a.relu()),
        lambda a: torch.exp(-a.relu()) * (1 - torch.exp(-a.relu())),
    ),
    UnitCase(
        "own example",
        lambda seed: Fold(steps=2, dead=0.0),
        lambda a: (
            torch.where((a.abs() >= 0.5) & (a.abs() <= 1.5), 0.5, 0.0)
            + torch.where(a.abs() == 1, 0.5, 0.0)
        ),
    ),
]


def smooth_mlp(generator: torch.Generator, widths: tuple[int, ...] = (4, 5, 3)) -> nn.Sequential:
    """A small tanh network in float64."""
    return _smooth([nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)], generator)


def smooth_conv(generator: torch.Generator) -> nn.Sequential:
    """A small tanh convolutional network in float64, for inputs (2, 5, 5)."""
    layers = [nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(27, 2)]
    return _smooth(layers, generator)


def smooth_norm(generator: torch.Generator) -> nn.Sequential:
    """A 1-d convolution and a trained normalisation, for inputs (1, 8)."""
    layers = [nn.Conv1d(1, 4, 3, stride=2), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(12, 2)]
    return _smooth(layers, generator)


def _smooth(layers: list[nn.Module], generator: torch.Generator) -> nn.Sequential:
    modules: list[nn.Module] = []
    for layer in layers:
        modules.append(layer)
        if layer is not layers[-1] and not isinstance(layer, nn.Flatten):
            modules.append(nn.Tanh())
    net = nn.Sequential(*modules).double()
    with torch.no_grad():
        for p in net.parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 4
            p.normal_(0, fan_in**-0.5, generator=generator)
    return net


SYSTEM_CASES = {
    "mlp": (smooth_mlp, (4,), 3),
    "conv": (smooth_conv, (2, 5, 5), 2),
    "norm": (smooth_norm, (1, 8), 2),
}


def regression_batch(
    generator: torch.Generator, shape: tuple[int, ...], outputs: int, batch: int = 3
) -> tuple[Tensor, Tensor]:
    """Inputs and real-valued targets in float64."""
    x = torch.randn(batch, *shape, dtype=torch.float64, generator=generator)
    return x, torch.randn(batch, outputs, dtype=torch.float64, generator=generator)


def gradients(net: nn.Module) -> dict[str, Tensor]:
    """Copies of `.grad` by name, which is cleared."""
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


def flat(grads: dict[str, Tensor]) -> Tensor:
    """All gradients in one vector."""
    return torch.cat([g.flatten() for g in grads.values()])


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two tensors of one shape."""
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


class Replay:
    """A sampler that hands out given draws; with none given it draws and keeps them."""

    def __init__(self, draws: list[Tensor] | None = None) -> None:
        self.given = None if draws is None else list(draws)
        self.kept: list[Tensor] = []

    def __call__(self, shape, like, generator):
        if self.given is not None:
            z = self.given.pop(0).clone()
            assert z.shape == torch.Size(shape)
        else:
            z = torch.randn(shape, dtype=like.dtype, generator=generator)
        self.kept.append(z.clone())
        return z


class TrueMap(Mirror):
    """A mirror whose map is the layer's weights."""

    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        self.map = self.as_map(self.layer.weight.detach())


def as_lists(net: nn.Module) -> list[tuple[list, list, list]]:
    """[(W, b, R)] of a perceptron, as nested lists."""
    wrapped = [m for _, m in decorrelations(net)]
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    Rs = [m.R for m in wrapped] or [torch.eye(m.in_features) for m in layers]
    return [
        (m.weight.tolist(), m.bias.tolist(), R.tolist()) for m, R in zip(layers, Rs, strict=True)
    ]
