"""The vector-Jacobian product of one digital operation, such as a normalisation or a padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def vjp(operation: Callable[[Tensor], Tensor], x: Tensor, credit: Tensor) -> Tensor:
    """Return Jᵀ credit, with J the Jacobian of an operation at x: of the shape of x.

    Args:
        operation: reads no weight.
        x: its measured input, (B, *in).
        credit: of its output, (B, *out).

    >>> vjp(torch.square, torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0]))
    tensor([ 2., 12.])
    """
    with torch.inference_mode(False), torch.enable_grad():
        given = x.detach().clone().requires_grad_()
        made = operation(given)
        (found,) = torch.autograd.grad(made, given, credit.detach().clone().to(made.dtype))
    return found
