"""What is learnt and how it is judged: a loss per sample, and a score per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from noisynets.core.losses import cross_entropy, negative_return, squared_error
from noisynets.core.types import Loss


@dataclass(frozen=True)
class Measure:
    """How a task is judged.

    Attributes:
        name: of the score, as in metrics.csv and summary.json.
        loss: what is made small.
        score: (output (B, ...), target (B, ...)) → (B,), whose mean is reported.
        higher: whether a higher score is better.
        each: (output (B, n), target (B, n)) → (B, n), the scores of single outputs; None: there
            are none.
        explodes: whether a loss of ten times its start means that training has diverged.
    """

    name: str
    loss: Loss
    score: Callable[[Tensor, Tensor], Tensor]
    higher: bool
    each: Callable[[Tensor, Tensor], Tensor] | None = None
    explodes: bool = True


def hit(output: Tensor, labels: Tensor) -> Tensor:
    """1 where the largest output is the label's: (B, classes), (B,) → (B,)."""
    return output.argmax(1) == labels


def percentage_error(output: Tensor, target: Tensor) -> Tensor:
    """200 mean(|p − y|/(|p| + |y|)): symmetric, in percent: (B, ...), (B, ...) → (B,).

    >>> import torch
    >>> percentage_error(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    tensor([100.])
    """
    size = (output.abs() + target.abs()).clamp_min(1e-12)
    return 200 * ((output - target).abs() / size).flatten(1).mean(1)


def squared_errors(output: Tensor, target: Tensor) -> Tensor:
    """(output − target)²: with targets of unit variance, the normalised squared errors."""
    return (output - target).square()


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over the outputs of `squared_errors`."""
    return squared_errors(output, target).flatten(1).mean(1)


def total(output: Tensor, target: Tensor) -> Tensor:
    """Return of an episode: (B, 1), anything → (B,)."""
    return output[:, 0]


ACCURACY = Measure("accuracy", cross_entropy, hit, higher=True)
NMSE = Measure("nmse", squared_error, mean_squared_error, higher=False, each=squared_errors)
"""Normalised mean squared error, for targets of unit variance: 1 for whoever predicts the mean."""
RETURN = Measure("return", negative_return, total, higher=True, explodes=False)
"""Sum of the rewards of an episode, not discounted."""
