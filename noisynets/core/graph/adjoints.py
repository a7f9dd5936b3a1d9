"""Adjoints of operations that move, scale, add or average numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.grad import conv2d_input

from noisynets.core.graph.expressions import Expression, LinearOp, Sum, Unit

RANDOM = ("bernoulli", "poisson", "binomial")
RESHAPES = ("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "_reshape_copy")
COPIES = ("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "expand")


def moved(
    name: str, args: tuple[Any, ...], tensor: Tensor, results: list[Tensor]
) -> list[tuple[Callable[[Tensor], Tensor], bool]] | None:
    """Return the adjoints of an operation that moves or averages numbers; None for any other.

    Args:
        name: of the operation, as in `torch.ops.aten`.
        args: of the operation.
        tensor: its input, (rows, ...).
        results: its outputs.

    Returns:
        One adjoint per result, and True if it also inverts the operation.
    """
    inner, out = tuple(tensor.shape[1:]), results[0]
    if name in COPIES and out.shape == tensor.shape:
        return [(lambda c: c, True)]
    if name in RESHAPES:
        return [(lambda c: c.reshape(len(c), *inner), True)]
    if name in ("permute", "transpose", "t"):
        order = list(range(tensor.dim()))
        if name == "permute":
            order = [d % tensor.dim() for d in args[1]]
        else:
            one, two = (args[1], args[2]) if name == "transpose" else (0, 1)
            order[one], order[two] = order[two], order[one]
        if order[0] != 0:
            return None
        back = [order.index(d) for d in range(len(order))]
        return [(lambda c: c.permute(back), True)]
    if name in ("select", "slice"):
        dim = args[1] % tensor.dim() if len(args) > 1 else 0
        if dim == 0:
            return None
        rest = args[2:]
        return [(lambda c: _into(c, inner, name, dim, rest), False)]
    if name in ("mean", "sum") and len(args) > 1 and args[1]:
        dims = sorted(d % tensor.dim() for d in args[1])
        if 0 in dims:
            return None
        n = 1
        for d in dims:
            n *= tensor.shape[d]
        keep = len(args) > 2 and bool(args[2])
        return [(lambda c: _spread(c, inner, dims, keep, n if name == "mean" else 1), False)]
    if name == "avg_pool2d" and tensor.dim() == 4:
        ceil, padded, divisor = (list(args[4:]) + [False, True, None][len(args[4:]) :])[:3]
        if ceil or not padded or divisor is not None:
            return None
        return [(lambda c: _avg_pool_adjoint(c, inner, args[1:]), False)]
    if name == "_adaptive_avg_pool2d" and tensor.dim() == 4:
        size = args[1]
        if any(n % k for n, k in zip(inner[1:], size, strict=True)):
            return None
        windows = [n // k for n, k in zip(inner[1:], size, strict=True)]
        return [(lambda c: _avg_pool_adjoint(c, inner, (windows,)), False)]
    if name in ("unbind", "split", "split_with_sizes", "unsafe_split", "chunk"):
        return _pieces(name, args, tensor, results)
    return None


def names(expression: Expression) -> str:
    """Return the operation of a unit; '·' for anything else."""
    return expression.operation if isinstance(expression, Unit) else "·"


def factor_of(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], live: Tensor
) -> float | None:
    """Return the factor of an activity in an affine operation; None for any other operation."""
    if name == "neg":
        return -1.0
    if len(args) < 2 or kwargs or not isinstance(args[0], Tensor):
        return None
    if name in ("add", "sub") or (name == "rsub" and len(args) == 2):
        return -1.0 if name == "rsub" or (name == "sub" and args[1] is live) else 1.0
    if name in ("mul", "div") and isinstance(args[1], int | float):
        return float(args[1]) if name == "mul" else 1 / args[1]
    return None


def with_constant(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    live: list[tuple[Tensor, Expression]],
    constant: Tensor,
    rows: int,
    shape: tuple[int, ...],
) -> Expression | None:
    """Return the expression of an operation with a constant tensor; None: it is opaque.

    Adding a constant changes no difference; multiplying or dividing by it is linear.
    """
    tensor, expression = live[0]
    if len(live) > 1 or kwargs or len(args) != 2:
        return None
    if name in ("add", "sub"):
        sign = 1.0 if name == "add" or args[0] is tensor else -1.0
        if constant.numel() == 1:
            return Sum(((expression, sign),), f"{name} {float(constant)!r}")
        # Units behind it differ from component to component as functions of the activity: what
        # they are given is measured, and no activity.
        return LinearOp(expression, lambda c: c * sign, f"{name} a constant")
    if name == "mul" or (name == "div" and args[0] is tensor):
        factor = (constant if name == "mul" else 1 / constant).detach().clone()
        batched = factor.dim() == len(shape) and len(factor) == rows

        def adjoint(c: Tensor) -> Tensor:
            return c * (factor[: len(c)] if batched else factor).to(c.dtype)

        return LinearOp(expression, adjoint, name)
    return None


def _pieces(
    name: str, args: tuple[Any, ...], tensor: Tensor, results: list[Tensor]
) -> list[tuple[Callable[[Tensor], Tensor], bool]] | None:
    position = 1 if name == "unbind" else 2
    dim = (args[position] if len(args) > position else 0) % tensor.dim()
    if dim == 0:
        return None
    inner, found, start = tuple(tensor.shape[1:]), [], 0
    for piece in results:
        if name == "unbind":
            found.append((_placed(inner, "select", dim, (start,)), False))
            start += 1
        else:
            end = start + piece.shape[dim]
            found.append((_placed(inner, "slice", dim, (start, end)), False))
            start = end
    return found


def _placed(
    inner: tuple[int, ...], name: str, dim: int, rest: tuple[Any, ...]
) -> Callable[[Tensor], Tensor]:
    return lambda c: _into(c, inner, name, dim, rest)


def _into(c: Tensor, inner: tuple[int, ...], name: str, dim: int, rest: tuple[Any, ...]) -> Tensor:
    """Return zeros, with `c` at the place that it was selected or sliced from."""
    whole = c.new_zeros(len(c), *inner)
    if name == "select":
        whole.select(dim, rest[0]).copy_(c)
    else:
        start, end, step = list(rest) + [None, None, 1][len(rest) :]
        index = [slice(None)] * dim + [slice(start, end, step)]
        whole[tuple(index)] = c
    return whole


def _spread(c: Tensor, inner: tuple[int, ...], dims: list[int], keep: bool, n: int) -> Tensor:
    if not keep:
        for d in dims:
            c = c.unsqueeze(d)
    return (c / n).expand(len(c), *inner)


def _avg_pool_adjoint(c: Tensor, inner: tuple[int, ...], settings: tuple[Any, ...]) -> Tensor:
    """Distribute the credit of an average over its window: a transposed convolution."""
    size, stride, padding = (list(settings) + [None, [], 0][len(settings) :])[:3]
    size = [size, size] if isinstance(size, int) else list(size)
    size = size * 2 if len(size) == 1 else size
    stride = list(stride) if isinstance(stride, list | tuple) and stride else size
    kernel = c.new_full((1, 1, *size), 1 / (size[0] * size[1]))
    flat = c.reshape(-1, 1, *c.shape[2:])
    whole = conv2d_input((len(flat), 1, *inner[1:]), kernel, flat, stride=stride, padding=padding)
    return whole.view(len(c), *inner)


def selected(dim: int, index: int) -> Callable[[Tensor], Tensor]:
    """Return the adjoint of stacking, for one of the parts."""
    return lambda c: c.select(dim, index)


def narrowed(dim: int, start: int, width: int) -> Callable[[Tensor], Tensor]:
    """Return the adjoint of concatenation, for one of the parts."""
    return lambda c: c.narrow(dim, start, width)
