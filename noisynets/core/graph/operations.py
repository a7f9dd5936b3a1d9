"""From one traced operation to the expressions of its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisynets.core.drawing import arguments, draws, is_random
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
from noisynets.core.graph.applied import Applied, substituted
from noisynets.core.graph.expressions import (
    Activity,
    Digital,
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
from noisynets.core.trees import leaves


@dataclass
class Operation:
    """One operation that PyTorch carried out.

    Attributes:
        name: as in `torch.ops.aten`, without the underscore of in-place forms.
        func: the operation.
        args: its positional arguments.
        kwargs: its other arguments.
        given: all tensors among the arguments.
        live: those that were computed from activities or parameters, with their expressions.
        results: tensors, in order.
        rows: of the stacked batch.
        measured: those of activities, with the dimension of their rows; None: unknown.
        physical: it was declared physical.
        applied: once its expressions are made: key of a digital operation, the positions of its
            live tensors, among those of the arguments, and the shapes of its results.
        opaque: once its expressions are made: no credit passes it.
    """

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    given: list[Tensor]
    live: list[tuple[Tensor, Expression]]
    results: list[Tensor]
    rows: int
    measured: list[tuple[Tensor, int | None]]
    physical: bool = False
    applied: tuple[int, tuple[int, ...], tuple[torch.Size, ...]] | None = None
    opaque: bool = False

    @property
    def pointwise(self) -> bool:
        """True if PyTorch tags it as element-wise."""
        return torch.Tag.pointwise in self.func.tags

    @property
    def random(self) -> bool:
        """True if it draws random numbers."""
        random = is_random(self.func) or self.name in RANDOM
        return random and draws(arguments(self.func, self.args, self.kwargs))

    @property
    def of_parameters(self) -> bool:
        """True if it acts on parameters alone."""
        return not self.measured

    @property
    def row_by_row(self) -> bool:
        """True if activities and results have their rows in the first dimension."""
        if len(self.measured) < len(self.live) or any(dim != 0 for _, dim in self.measured):
            return False
        tensors = [*self.results, *(t for t, _ in self.live)]
        return bool(self.shape) and all(len(t) == self.rows for t in tensors if t.dim())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first result."""
        return tuple(self.results[0].shape)


def operation(
    name: str,
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    given: list[Tensor],
    results: list[Tensor],
    values: Values,
    rows: int,
) -> Operation:
    """Return an operation that was carried out, with what its arguments hold."""
    read = given[1:] if name == "copy" else given
    held = [(t, h) for t in read if (h := values.held(t)) is not None]
    live = [(t, h.expression) for t, h in held]
    measured = [(t, h.row_dim) for t, h in held if not h.parametric]
    return Operation(name, func, args, kwargs, given, live, results, rows, measured)


def expressions_of(op: Operation, values: Values, mutates: bool) -> list[Expression | None]:
    """Return the expression of every result of an operation; None: no activity went into it."""
    constant = op.name.endswith("_like") or op.name.startswith("new_") or op.name in CONSTANT
    if constant or not op.live:
        return [None] * len(op.results)
    known = _row_by_row(op, values) if op.row_by_row else None
    if known is None and not op.physical:
        known = _digital(op, values, mutates)
    op.opaque = not known
    return known or [Opaque(tuple(e for _, e in op.live), op.name) for _ in op.results]


def _row_by_row(op: Operation, values: Values) -> list[Expression | None] | None:
    """Return the expressions of an operation on rows of activities; None: it is of no such kind."""
    tensor, expression = op.live[0]
    copied = op.name in COPIES and not isinstance(expression, Unit)
    if op.name in RANDOM or (op.pointwise and not copied):
        made = _pointwise(op, values)
        return None if made is None or len(op.results) > 1 else [made]
    if op.name == "max_pool2d_with_indices" and tensor.dim() == 4:
        before = -1 if isinstance(expression, Activity) else values.store(tensor)
        return [MaxPool(expression, before, _frozen(op.args[1:])), None]
    if op.name in JOINS:
        joined = _joined(op, values)
        return None if joined is None else [joined]
    adjoints = moved(op.name, op.args, tensor, op.results)
    if adjoints is None:
        return None
    what = f"{op.name}{op.args[1:]}"
    return [
        LinearOp(expression, adjoint, f"{what}[{i}]", invertible)
        for i, (adjoint, invertible) in enumerate(adjoints)
    ]


JOINS = ("cat", "stack")
"""Operations whose expressions depend on the shapes of constants, and not on their values."""

CONSTANT = ("zero", "fill", "normal", "uniform")
"""Operations in place whose results do not depend on what was there."""

ARITHMETIC = ("mul", "div", "pow", "square", "sqrt", "rsqrt", "reciprocal")
"""Products and powers: of activities, not units."""

FLAT = (
    *("sign", "round", "floor", "ceil", "trunc", "heaviside", "floor_divide", "fmod", "remainder"),
    *("frexp", "nextafter", "bucketize", "searchsorted"),
)
"""Operations whose derivative is 0 almost everywhere."""


def _is_unit(op: Operation) -> bool:
    """Return True for an element-wise function of one activity, which may only be measured."""
    known = op.name in ARITHMETIC or op.name in COPIES or op.of_parameters
    others = [t for t in op.given if t.dim() and t is not op.live[0][0]]
    return op.pointwise and not known and not others


def _digital(op: Operation, values: Values, mutates: bool) -> list[Expression | None] | None:
    """Return the expressions of a deterministic operation's results; None: it has no derivative."""
    live = [(t, e) for t, e in op.live if t.is_floating_point() or t.is_complex()]
    if not live or op.random or op.name in FLAT or _is_unit(op):
        return None
    chosen = {id(t) for t, _ in live}
    tensors = leaves((op.args, op.kwargs))
    at = tuple(i for i, t in enumerate(tensors) if id(t) in chosen)
    key = values.new_key()
    op.applied = key, at, tuple(r.shape for r in op.results)
    apply(*op.applied, op.func, op.args, op.kwargs, values, mutates)
    of = tuple(e for t in tensors if id(t) in chosen for e in [values.expression(t)] if e)
    return [
        Digital(of, op.name, key, i)
        if r.is_floating_point() or r.is_complex()
        else Opaque(of, op.name)
        for i, r in enumerate(op.results)
    ]


def apply(
    key: int,
    live: tuple[int, ...],
    shapes: tuple[torch.Size, ...],
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    values: Values,
    mutates: bool,
) -> None:
    """Keep a digital operation with the values on which it was carried out."""
    if mutates:
        args, kwargs = substituted((args, kwargs), lambda i, t: values.kept.before(t))
    values.kept.apply(key, Applied(func, args, kwargs, live, shapes))


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
        constant = values.kept.before(fixed[0])
        return with_constant(op.name, op.args, op.kwargs, op.live, constant, op.rows, op.shape)
    if len(op.live) == 1 and not isinstance(expression, Unit):
        factor = factor_of(op.name, op.args, op.kwargs, tensor)
        if factor is not None:
            return Sum(((expression, factor),), _added(op))
    if op.name in ARITHMETIC and not any(isinstance(e, Unit) for _, e in op.live):
        return None
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


def _joined(op: Operation, values: Values) -> Expression | None:
    """Return a concatenation as a sum of parts that were each moved to their place."""
    dim = (op.args[1] if len(op.args) > 1 else 0) % op.results[0].dim()
    if dim == 0 or any(part.dim() != op.args[0][-1].dim() for part in op.args[0]):
        return None
    terms: list[tuple[Expression, float]] = []
    start, stacks = 0, op.name == "stack"
    for part in op.args[0]:
        expression = values.expression(part)
        width = 1 if stacks else part.shape[dim]
        if expression is not None:
            take = selected(dim, start) if stacks else narrowed(dim, start, width)
            terms.append((LinearOp(expression, take, f"{op.name} {start}"), 1.0))
        start += width
    return Sum(tuple(terms))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
