"""Losses per sample: node perturbation compares the losses of two passes sample by sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.types import Loss


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(outputs)[target]: outputs (R, classes), targets (R,) → (R,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ ‖output − target‖²: outputs (R, ...), targets (R, ...) → (R,).

    Raises:
        InputError: if the shapes differ, because broadcasting would mix rows.
    """
    if outputs.shape != targets.shape:
        raise InputError(
            f"squared_error: outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} "
            "must have one shape"
        )
    return (outputs - targets).square().flatten(1).sum(1) / 2


def negative_return(outputs: Tensor, targets: Tensor) -> Tensor:
    """−return of an episode: outputs (R, 1) → (R,); the targets are not used."""
    return -outputs[:, 0]


def _cross_entropy_error(outputs: Tensor, targets: Tensor) -> Tensor | None:
    if outputs.dim() != 2 or targets.dim() != 1:
        return None
    classes = torch.arange(outputs.shape[1], device=outputs.device)
    error = outputs.softmax(1) - (classes == targets[:, None]).to(outputs.dtype)
    return error * (targets != IGNORED)[:, None]


IGNORED = -100
"""Target of rows that cross entropy leaves out."""

DERIVATIVES: dict[Loss, Callable[[Tensor, Tensor], Tensor | None]] = {
    cross_entropy: _cross_entropy_error,
    squared_error: lambda outputs, targets: outputs - targets,
}
"""∂loss/∂output (R, ...) of losses with a closed form; None if these shapes have none."""


def losses(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Evaluate the loss, and check that it has one value per row.

    Args:
        loss: (outputs, targets) → losses.
        outputs: (R, ...).
        targets: (R, ...).

    Returns:
        Losses (R,).

    Raises:
        InputError: if the loss was averaged over rows, or not reduced over features.

    >>> import torch
    >>> losses(F.cross_entropy, torch.zeros(2, 3), torch.tensor([0, 1]))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: the loss gave shape () for 2 rows: it must return one value \
per row, as with reduction='none' (and summed over features)
    """
    values = loss(outputs, targets)
    if values.shape != targets.shape[:1]:
        raise InputError(
            f"the loss gave shape {tuple(values.shape)} for {len(targets)} rows: it must return "
            "one value per row, as with reduction='none' (and summed over features)"
        )
    return values
