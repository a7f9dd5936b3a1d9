"""What a file of declarations says about an architecture that nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCH = 2
"""Rows of a batch, B: `np` without sampling error takes 4 passes per component of an activity."""


def whole(output: Any) -> Tensor:
    """The output itself, of an architecture that returns one tensor."""
    return output


@dataclass(frozen=True)
class Architecture:
    """An architecture in a small configuration.

    Attributes:
        name: in the table.
        build: () → the module; packages are imported here, not before.
        inputs: () → one tensor, (B, ...).
        tensor: output of the module → one tensor, (R, ...), which the loss compares with targets.
        note: what had to be added to the architecture, or changed.
        differences: the truth is differences of the loss, weight by weight, instead of autograd:
            where a package cuts or replaces derivatives, as spiking ones do.
        rows: of a stacked batch, about; 2 for one noisy pass, as by default in training.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    tensor: Callable[[Any], Tensor] = whole
    note: str = ""
    differences: bool = False
    rows: int = 1024


def images(*shape: int) -> Callable[[], Tensor]:
    """Return a function that draws N(0, 1) inputs, (B, *shape)."""
    return lambda: torch.randn(BATCH, *shape)


def spikes(*shape: int) -> Callable[[], Tensor]:
    """Return a function that draws inputs of 0 and 1 with equal probability, (B, *shape)."""
    return lambda: torch.randint(0, 2, (BATCH, *shape)).float()


def tokens(length: int, vocabulary: int) -> Callable[[], Tensor]:
    """Return a function that draws token numbers, (B, length), without the special ones 0 to 2."""
    return lambda: torch.randint(3, vocabulary, (BATCH, length))


class With(nn.Module):
    """Calls a module with fixed further arguments, or takes one item of what it returns.

    Args:
        module: (inputs, *further) → output.
        call: (module, inputs) → output.
    """

    def __init__(self, module: nn.Module, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self.call = call

    def forward(self, inputs: Tensor) -> Any:
        return self.call(self.module, inputs)


def smooth(v: Tensor) -> Tensor:
    """A spike as a smooth step of the potential above the threshold: spiking nets with derivatives.

    A spike has no derivative, and `np` agrees with that: the estimate of what acts through spikes
    alone is 0. With smooth spikes there is something to compare.
    """
    return torch.sigmoid(4 * v)
