"""Measures: the loss that a task minimises and the score that is reported, both per sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from noisynets.core.losses import (
    cross_entropy,
    negative_return,
    sequence_cross_entropy,
    squared_error,
)
from noisynets.core.types import Loss


@dataclass(frozen=True)
class Measure:
    """Loss and score of a task.

    Attributes:
        name: name of the score in metrics.csv and summary.json.
        loss: loss per sample, minimised by training.
        score: (output (B, ...), target (B, ...)) → (B,); its mean is reported.
        higher: True if a higher score is better.
        each: (output (B, n), target (B, n)) → (B, n), a score for every output; None: not defined.
        explodes: True if a loss above ten times its initial value counts as divergence.
    """

    name: str
    loss: Loss
    score: Callable[[Tensor, Tensor], Tensor]
    higher: bool
    each: Callable[[Tensor, Tensor], Tensor] | None = None
    explodes: bool = True


def hit(output: Tensor, labels: Tensor) -> Tensor:
    """Return True for every sample whose largest output is that of its label.

    Args:
        output: (B, classes).
        labels: (B,).

    Returns:
        (B,).
    """
    return output.argmax(1) == labels


def percentage_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the symmetric mean absolute percentage error, 200 mean(|p − y|/(|p| + |y|)).

    Args:
        output: p, (B, ...).
        target: y, (B, ...).

    Returns:
        (B,), in percent.

    >>> import torch
    >>> percentage_error(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    tensor([100.])
    """
    size = (output.abs() + target.abs()).clamp_min(1e-12)
    return 200 * ((output - target).abs() / size).flatten(1).mean(1)


def squared_errors(output: Tensor, target: Tensor) -> Tensor:
    """Return (output − target)²; normalised squared errors if the targets have unit variance."""
    return (output - target).square()


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean of `squared_errors` over the outputs: (B, ...), (B, ...) → (B,)."""
    return squared_errors(output, target).flatten(1).mean(1)


def total(output: Tensor, target: Tensor) -> Tensor:
    """Return the episode returns (B,) from the outputs (B, 1); the targets are ignored."""
    return output[:, 0]


def bits(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of a row's positions, (B, T, n), (B, T) → (B,), in bits.

    >>> import torch
    >>> bits(torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.long))
    tensor([2.])
    """
    return sequence_cross_entropy(output, target).sum(1) / math.log(2)


ACCURACY = Measure("accuracy", cross_entropy, hit, higher=True)
NMSE = Measure("nmse", squared_error, mean_squared_error, higher=False, each=squared_errors)
"""Mean squared error for targets of unit variance; predicting the mean gives 1."""
BITS = Measure("bits_per_character", sequence_cross_entropy, bits, higher=False)
"""The loss is in nats per character."""
RETURN = Measure("return", negative_return, total, higher=True, explodes=False)
"""Undiscounted sum of an episode's rewards."""
