"""The shared list of cases: every rule, layer type and small system that the batteries check."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisynets import RULES, SPSA, NodePerturbation, Rule, WeightPerturbation, squared_error

RULE_CASES: list[Rule] = list(RULES.values())
UNBIASED = ("np", "inp")


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


ESTIMATORS = {
    **{
        rule.name: lambda net, rule=rule, **kw: NodePerturbation(net, squared_error, rule, **kw)
        for rule in RULE_CASES
    },
    "wp": lambda net, **kw: WeightPerturbation(net, squared_error, **kw),
    "spsa": lambda net, **kw: SPSA(net, squared_error, **kw),
}
