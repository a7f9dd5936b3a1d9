"""Batch normalisation with the statistics of the reference rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OPERATIONS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_batch_norm_with_update",
    "cudnn_batch_norm",
    "miopen_batch_norm",
)
"""Operators that normalise over a batch, as PyTorch calls them."""


def normalised(given: dict[str, Any], rows: int, returns: int) -> tuple[Tensor, ...]:
    """Return what a batch normalisation does, with the statistics of its first rows.

    The running statistics are updated once, by these rows, with the unbiased variance. The steps
    are ordinary operations, so that the derivative of the reference rows includes that of mean and
    variance. Where rows is the whole batch, the result is PyTorch's up to rounding.

    Args:
        given: arguments of the operator, by name; input (R, C, ...).
        rows: of the reference pass.
        returns: number of results of the operator.

    Raises:
        ValueError: for a single value per channel, as PyTorch does.
    """
    x, eps = given["input"], given.get("eps", given.get("epsilon", 1e-5))
    momentum = given.get("momentum", given.get("exponential_average_factor", 0.1))
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    reference, dims = wide[:rows], [0, *range(2, x.dim())]
    count = reference.numel() // max(x.shape[1], 1)
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size "
            f"{reference.shape}"
        )
    mean, variance = reference.mean(dims), reference.var(dims, correction=0)
    shape = [1, -1, *[1] * (x.dim() - 2)]
    spread = (variance + eps).rsqrt()
    out = (wide - mean.view(shape)) * spread.view(shape)
    if given.get("weight") is not None:
        out = out * given["weight"].view(shape)
    if given.get("bias") is not None:
        out = out + given["bias"].view(shape)
    unbiased = variance * (count / (count - 1))
    for name, value in (("running_mean", mean), ("running_var", unbiased)):
        running = given.get(name)
        if running is not None:
            running.mul_(1 - momentum).add_(value.to(running.dtype), alpha=momentum)
    empty = [x.new_empty(0, dtype=torch.uint8)] * (returns - 3)
    return out.to(x.dtype), mean, spread, *empty


def same_of_instances(given: dict[str, Any], passes: int, rows: int) -> bool:
    """Give every pass the statistics of the reference, where each row has its own.

    PyTorch normalises instances as one row of R·C channels, and takes the mean over R of their
    running statistics.

    Returns:
        False if there are none.
    """
    kept = [given.get("running_mean"), given.get("running_var")]
    found = [t for t in kept if t is not None and t.numel() % rows == 0]
    for running in found:
        each = running.view(passes, -1)
        each.copy_(each[0].clone().expand_as(each))
    return bool(found)
