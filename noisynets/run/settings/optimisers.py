"""Optimisers of `torch.optim` that `--optimiser` can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from noisynets.core.registry import Registry


@dataclass(frozen=True)
class Optimiser:
    """An optimiser.

    Attributes:
        name: as on the command line.
        make: (parameters, learning rate, β₂) → the optimiser; β₂ is None without second moments.
        moments: it keeps second moments, so that `--adam-beta2` applies.
    """

    name: str
    make: Callable[[Iterable[nn.Parameter], float, float | None], torch.optim.Optimizer]
    moments: bool = False


def _adam(
    parameters: Iterable[nn.Parameter], lr: float, beta2: float | None
) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=(0.9, beta2 or 0.0), fused=True)


def _sgd(
    parameters: Iterable[nn.Parameter], lr: float, beta2: float | None
) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, fused=True)


OPTIMISERS: Registry[Optimiser] = Registry(
    "optimiser", (Optimiser("adam", _adam, moments=True), Optimiser("sgd", _sgd))
)
