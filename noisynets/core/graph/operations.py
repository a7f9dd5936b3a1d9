"""From one traced operation to the expressions of its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisynets.core.graph.adjoints import (
    COPIES,
    RANDOM,
    factor_of,
    moved,
    names,
    narrowed,
    selected,
    with_constant,
)
from noisynets.core.graph.expressions import (
    Expression,
    LinearOp,
    MaxPool,
    Opaque,
    Sum,
    Unit,
    base,
    constants,
)
from noisynets.core.graph.values import Values


@dataclass(frozen=True)
class Operation:
    """One operation that PyTorch carried out.

    Attributes:
        name: as in `torch.ops.aten`, without the underscore of in-place forms.
        args: its positional arguments.
        kwargs: its other arguments.
        pointwise: it acts element by element.
        given: all tensors among the arguments.
        live: those that were computed from activities, with their expressions.
        results: tensors, in order.
        rows: of the stacked batch.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    pointwise: bool
    given: list[Tensor]
    live: list[tuple[Tensor, Expression]]
    results: list[Tensor]
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return tuple(self.results[0].shape)


def expressions_of(op: Operation, values: Values) -> list[Expression | None]:
    """Return the expression of every result of an operation; None: no activity went into it."""
    if op.name.endswith("_like") or op.name.startswith("new_") or not op.live:
        return [None] * len(op.results)
    opaque: list[Expression | None] = [Opaque(tuple(e for _, e in op.live), op.name)]
    opaque *= len(op.results)
    (tensor, expression), shape = op.live[0], op.shape
    if any(len(r) != op.rows for r in op.results if r.dim()) or not shape:
        return opaque
    copied = op.name in COPIES and not isinstance(expression, Unit)
    if op.name in RANDOM or (op.pointwise and not copied):
        made = _pointwise(op, values)
        return opaque if made is None or len(op.results) > 1 else [made]
    if op.name == "max_pool2d_with_indices" and tensor.dim() == 4:
        return [MaxPool(expression, values.store(tensor), _frozen(op.args[1:])), None]
    if op.name in ("cat", "stack"):
        return [_joined(op, values)]
    adjoints = moved(op.name, op.args, tensor, op.results)
    if adjoints is None:
        return opaque
    what = f"{op.name}{op.args[1:]}"
    return [
        LinearOp(expression, adjoint, f"{what}[{i}]", invertible)
        for i, (adjoint, invertible) in enumerate(adjoints)
    ]


def _pointwise(op: Operation, values: Values) -> Expression | None:
    """Return the expression of an element-wise operation; None: it is opaque."""
    tensor, expression = op.live[0]
    if any(tuple(t.shape) != op.shape for t, _ in op.live):
        return None
    known = {id(t) for t, _ in op.live}
    fixed = [t for t in op.given if id(t) not in known and t.dim()]
    whole = base(expression)
    alike = all(base(e) is whole for _, e in op.live)
    if fixed and op.name not in RANDOM:
        return with_constant(op.name, op.args, op.kwargs, op.live, fixed[0], op.rows, op.shape)
    if len(op.live) == 1 and not isinstance(expression, Unit):
        factor = factor_of(op.name, op.args, op.kwargs)
        if factor is not None:
            return Sum(((expression, factor),), _added(op))
    before = values.store_base(whole, op.live) if alike else None
    if before is None and len(op.live) == 1:
        whole, before = expression, values.store(tensor)
    if before is not None:
        operation = "·".join([*dict.fromkeys(names(e) for _, e in op.live), op.name])
        numbers = "·".join([*(constants(e) for _, e in op.live), _numbers(op)]).strip("·")
        return Unit(whole, before, values.new_key(), operation, numbers)
    if op.name in ("add", "sub") and len(op.live) == 2 and not set(op.kwargs) - {"alpha"}:
        second = float(op.kwargs.get("alpha", 1)) * (1 if op.name == "add" else -1)
        return Sum(((op.live[0][1], 1.0), (op.live[1][1], second)))
    return None


def _added(op: Operation) -> str:
    """Return the number that an affine operation adds, in words; '' for any other."""
    return f"{op.name} {_numbers(op)}" if op.name in ("add", "sub", "rsub") else ""


def _numbers(op: Operation) -> str:
    """Return the numbers among the arguments of an operation, and the values of its scalars."""
    scalars = [float(t) for t in op.given if not t.dim() and not t.is_complex()]
    given = [a for a in (*op.args, *op.kwargs.values()) if isinstance(a, int | float | str)]
    return ",".join(map(repr, [*given, *scalars]))


def _joined(op: Operation, values: Values) -> Expression:
    """Return a concatenation as a sum of parts that were each moved to their place."""
    dim = (op.args[1] if len(op.args) > 1 else 0) % op.results[0].dim()
    terms: list[tuple[Expression, float]] = []
    start, stacks = 0, op.name == "stack"
    for part in op.args[0]:
        expression = values.expression(part)
        width = 1 if stacks else part.shape[dim]
        if expression is not None:
            if dim == 0:
                return Opaque((expression,), op.name)
            take = selected(dim, start) if stacks else narrowed(dim, start, width)
            terms.append((LinearOp(expression, take, f"{op.name} {start}"), 1.0))
        start += width
    return Sum(tuple(terms))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def is_pointwise(func: Any) -> bool:
    """True if PyTorch tags an operator as element-wise."""
    return torch.Tag.pointwise in func.tags
