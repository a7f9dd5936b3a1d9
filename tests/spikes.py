"""A small spiking network and a task for it."""

import torch
from torch import Tensor, nn

from noisynets import RULES, InTime, OverTrial, Rule
from noisynets.rules.credit.feedback import Feedback
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.spiking import (
    Leaky,
    Spiking,
)


def lif(*widths: int, steps: int | None = 6, noise: float = 0.0, **settings) -> Spiking:
    torch.manual_seed(0)
    modules: list[nn.Module] = []
    for i, (n, m) in enumerate(zip(widths, widths[1:], strict=False)):
        layer: nn.Module = nn.Linear(n, m)
        nn.init.normal_(layer.weight, 0, 1.5 / n**0.5)
        modules += [Noisy(layer, AdditiveGaussian(noise, seed=i)) if noise else layer]
        modules += [Leaky(0.9, **settings)] if i < len(widths) - 2 else []
    return Spiking(nn.Sequential(*modules), steps)


def over(rule: str, credit: str, **options) -> Rule:
    """A rule that gives credit to the mean over a "trial", or to all its "steps"."""
    made = RULES[rule].make(0, **options)
    if credit == "trial":
        return OverTrial(made)
    return InTime(made) if isinstance(made, Feedback) else made


def task(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, 6, generator=generator)
    return x.unsqueeze(1), ((x[:, 0] > x[:, 1]).long() + 2 * (x[:, 2] > x[:, 3]).long())
