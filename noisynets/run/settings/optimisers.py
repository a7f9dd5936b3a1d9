"""Optimisers of `torch.optim` that `--optimiser` can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from noisynets.core.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What an optimiser is given.

    Attributes:
        lr: learning rate.
        beta2: β₂ of second moments; None: there are none.
        momentum: share of the last step that is added to the next.
        weight_decay: of all weights.
    """

    lr: float
    beta2: float | None = None
    momentum: float = 0.0
    weight_decay: float = 0.0

    @property
    def betas(self) -> tuple[float, float]:
        """Return β₁ and β₂."""
        return 0.9, self.beta2 or 0.0


@dataclass(frozen=True)
class Optimiser:
    """An optimiser.

    Attributes:
        name: as on the command line.
        make: (parameters, rates) → the optimiser.
        moments: it keeps second moments, so that `--adam-beta2` applies.
        momentum: `--momentum` applies.
        decay: of the weights, where none is given; None: `--weight-decay` does not apply.
    """

    name: str
    make: Callable[[Iterable[nn.Parameter], Rates], torch.optim.Optimizer]
    moments: bool = False
    momentum: bool = False
    decay: float | None = None


def _adam(parameters: Iterable[nn.Parameter], r: Rates) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=r.lr, betas=r.betas, fused=True)


def _adamw(parameters: Iterable[nn.Parameter], r: Rates) -> torch.optim.Optimizer:
    decay = r.weight_decay
    return torch.optim.AdamW(parameters, lr=r.lr, betas=r.betas, weight_decay=decay, fused=True)


def _sgd(parameters: Iterable[nn.Parameter], r: Rates) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters, lr=r.lr, momentum=r.momentum, weight_decay=r.weight_decay, fused=True
    )


OPTIMISERS: Registry[Optimiser] = Registry(
    "optimiser",
    (
        Optimiser("adam", _adam, moments=True),
        Optimiser("adamw", _adamw, moments=True, decay=0.01),
        Optimiser("sgd", _sgd, momentum=True, decay=0.0),
    ),
)
