"""What the unfused modules share: layers made of given Parameters, and the layout of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)
"""Attributes of `nn.Module` that hold the hooks on its calls."""


def linear(weight: nn.Parameter, bias: nn.Parameter | None) -> nn.Linear:
    """Return a layer that holds these very Parameters; no memory is allocated.

    Args:
        weight: (out, in).
        bias: (out,), or None.

    >>> import torch
    >>> weight = nn.Parameter(torch.ones(2, 3))
    >>> linear(weight, None).weight is weight
    True
    """
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device="meta")
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer


def holds(module: nn.Module, names: Sequence[str]) -> bool:
    """Return True if a module's own parameters are those of the given names, or fewer.

    With a parametrization, a name stands for a tensor that is computed from other Parameters.
    """
    known = all(isinstance(getattr(module, name), nn.Parameter | None) for name in names)
    return known and set(module._parameters) <= set(names)


def take_over(new: nn.Module, old: nn.Module) -> None:
    """Give a new module the hooks of the module that it replaces, and its training mode."""
    new.train(old.training)
    for name in HOOKS:
        hooks = getattr(old, name)
        setattr(new, name, hooks.copy() if hasattr(hooks, "copy") else hooks)


def swapped(x: Tensor) -> Tensor:
    """Return a sequence with the batch and time exchanged: (T, B, F) ↔ (B, T, F).

    A sequence without a batch, (T, F), is returned as it is.
    """
    return x.transpose(0, 1) if x.dim() == 3 else x


class RowsFirst:
    """A module on sequences that can be called with the batch first, whatever its own layout.

    Its `forward` takes `rows_first=True`: all sequences are then (B, T, F), also the output.
    Within a stack of layers, sequences are therefore exchanged only where they enter and leave.
    """


def call_rows_first(
    module: nn.Module, *sequences: Tensor, batch_first: bool, **settings: Any
) -> Any:
    """Call a module on sequences (B, T, F), and return its output so.

    Args:
        module: unfused, or any other, which is then called in its own layout.
        *sequences: (B, T, F) or, without a batch, (T, F).
        batch_first: layout of a module that is not unfused.
        **settings: further arguments.

    Returns:
        The output; the first output of a module that returns several.
    """
    if isinstance(module, RowsFirst):
        output = module(*sequences, **settings, rows_first=True)
    elif batch_first:
        output = module(*sequences, **settings)
    else:
        known = {id(x): swapped(x) for x in sequences}  # equal sequences stay one tensor
        output = module(*(known[id(x)] for x in sequences), **settings)
        return swapped(output[0] if isinstance(output, tuple) else output)
    return output[0] if isinstance(output, tuple) else output
