"""Watching a pass: which operations make each node's input out of activities, and their values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from noisynets.feedback.wiring import (
    Activity,
    Expression,
    MaxPool,
    Moved,
    Opaque,
    Sum,
    Unit,
    base,
    parts,
)
from noisynets.types import Node, Population

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Wiring:
    """How each node's input in each call, and the system's output, were made.

    Attributes:
        inputs: per call, in their order; None where no activity went in.
        output: of the system; None where it is not one tensor made of activities.
        values: that passed between the nodes, (rows, ...), by number.
        on_average: over a trial; values are then those of the first step, and say nothing.
    """

    inputs: tuple[Expression | None, ...]
    output: Expression | None
    values: dict[int, Tensor]
    on_average: bool = False

    @property
    def reported(self) -> bool:
        """Whether reports alone hold all the values that credit needs on its way."""
        return not self.unreported

    @property
    def unreported(self) -> set[Expression]:
        """Units and poolings of which no report has what went in and what came out."""
        seen = {part for made in self.inputs if (part := seen_in(made)) is not None}
        return {
            part
            for part in parts(*self.inputs, self.output)
            if (isinstance(part, Unit) and part not in seen and not part.population)
            or (isinstance(part, MaxPool) and not _pools_spikes(part))
        }


def _pools_spikes(pool: MaxPool) -> bool:
    return isinstance(pool.of, Unit) and bool(pool.of.population)


def seen_in(made: Expression | None) -> Unit | None:
    """Return the unit on an activity whose outputs are a node's input, in another shape."""
    while isinstance(made, Moved) and made.undoes:
        made = made.of
    return made if isinstance(made, Unit) and isinstance(made.of, Activity) else None


class Watch(TorchDispatchMode):
    """Context manager: notes the operations of one pass. Open it inside an open probe.

    Args:
        nodes: whose calls are watched.
        rows: of the stacked batch.
        trial: populations by their paths, where reports are means over a trial: they are not
            looked into, and only the first step is watched; None: every call counts.
    """

    def __init__(
        self, nodes: Sequence[Node], rows: int, trial: dict[str, Population] | None = None
    ) -> None:
        super().__init__()
        self._trial = trial
        self._met: set[Node] = set()
        self._over = False  # the first step of a trial
        self._inside: dict[str, Expression | None] = {}
        self._units: dict[str, Unit] = {}
        self._values: dict[int, Tensor] = {}
        self._nodes = nodes
        self._rows = rows
        self._calls = 0
        self._numbers = itertools.count()
        self._before: dict[Key, Tensor] = {}
        self._inputs: list[Expression | None] = []
        self._entered: dict[Node, Expression | None] = {}
        self._made: dict[Key, Expression] = {}
        self._number: dict[Key, int] = {}
        self._alive: list[Tensor] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Watch:
        for node in self._nodes:
            enter = node.inlet.register_forward_pre_hook(self._enters(node), with_kwargs=True)
            leave = node.outlet.register_forward_hook(self._leaves(node))
            self._handles += [enter, leave]
        for name, population in (self._trial or {}).items():
            enter = population.register_forward_pre_hook(self._goes_in(name), with_kwargs=True)
            leave = population.register_forward_hook(self._comes_out(name))
            self._handles += [enter, leave]
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def wiring(self, output: Any) -> Wiring:
        """Return what was found, once the system has given its `output`."""
        made = self._expression(output) if isinstance(output, Tensor) else None
        return Wiring(tuple(self._inputs), made, self._values, self._trial is not None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out one operation, and note what it did."""
        if self._over or self._inside:
            return func(*args, **(kwargs or {}))
        self._before.clear()
        if func._schema.is_mutable:  # what it acts on will be gone
            for tensor in _tensors((args, kwargs)):
                if self._expression(tensor) is not None:
                    self._before[_key(tensor)] = tensor.detach().clone()
        out = func(*args, **(kwargs or {}))
        self._note(func, args, kwargs or {}, out)
        return out

    # --- hooks --------------------------------------------------------------------------------

    def _enters(self, node: Node) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            raw = args[0] if args else next(iter(kwargs.values()))
            self._over = self._over or (self._trial is not None and node in self._met)
            self._met.add(node)
            if not self._over:
                self._entered[node] = self._expression(raw)

        return hook

    def _leaves(self, node: Node) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if self._over:
                return
            self._inputs.append(self._entered.pop(node))
            self._set(output, Activity(self._calls))
            self._calls += 1

        return hook

    def _goes_in(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            current = args[0] if args else next(iter(kwargs.values()))
            self._inside[name] = None if self._over else self._expression(current)

        return hook

    def _comes_out(self, name: str) -> Callable[..., None]:
        def hook(module: Population, args: Any, output: Tensor) -> None:
            made = self._inside.pop(name)
            if made is not None:
                kind = type(module).__name__
                self._units[name] = Unit(made, -1, next(self._numbers), kind, population=name)
            if name in self._units and (not self._over or module.final):
                self._set(output, self._units[name])

        return hook

    # --- expressions --------------------------------------------------------------------------

    def _expression(self, tensor: Tensor) -> Expression | None:
        return self._made.get(_key(tensor))

    def _set(self, tensor: Tensor, expression: Expression | None) -> None:
        if expression is None:
            self._made.pop(_key(tensor), None)
            return
        self._alive.append(tensor)  # so that no other tensor takes its place in memory
        self._made[_key(tensor)] = expression
        number = expression.after if isinstance(expression, Unit) else next(self._numbers)
        self._number[_key(tensor)] = number
        if isinstance(expression, Unit):
            self._values[number] = tensor.detach().clone()

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Any, out: Any) -> None:
        name = str(func.overloadpacket).removeprefix("aten.")
        given = _tensors((args, kwargs))
        live = [(t, e) for t in given if (e := self._expression(t)) is not None]
        mutates = func._schema.is_mutable
        results = _tensors(out)
        if name.endswith("_like") or name.startswith("new_") or not live:
            made: list[Expression | None] = [None] * len(results)
        else:
            made = self._make(func, name.removesuffix("_"), args, kwargs, given, live, results)
        for tensor, expression in zip(results, made, strict=True):
            if mutates:
                self._forget_views(tensor)
            elif _key(tensor) in self._made:
                continue  # a view of the whole: the same numbers in the same place
            self._set(tensor, expression)

    def _forget_views(self, tensor: Tensor) -> None:
        """Other views of what was changed in place hold something else now."""
        storage, key = _key(tensor)[0], _key(tensor)
        for other in [k for k in self._made if k[0] == storage and k != key]:
            self._made[other] = Opaque((self._made[other],), "a change in place")

    def _make(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        live: list[tuple[Tensor, Expression]],
        results: list[Tensor],
    ) -> list[Expression | None]:
        opaque: list[Expression | None] = [Opaque(tuple(e for _, e in live), name)] * len(results)
        (tensor, expression), shape = live[0], tuple(results[0].shape)
        if any(len(r) != self._rows for r in results if r.dim()) or not shape:
            return opaque
        copied = name in COPIES and not isinstance(expression, Unit)
        if name in RANDOM or (torch.Tag.pointwise in func.tags and not copied):
            made = self._pointwise(name, args, kwargs, given, live, shape)
            return opaque if made is None or len(results) > 1 else [made]
        if name == "max_pool2d_with_indices" and tensor.dim() == 4:
            return [MaxPool(expression, self._keep(tensor), _frozen(args[1:])), None]
        if name in ("cat", "stack"):
            return [self._joined(name, args, results[0])]
        adjoints = moved(name, args, tensor, results)
        if adjoints is None:
            return opaque
        what = f"{name}{args[1:]}"
        return [
            Moved(expression, adjoint, f"{what}[{i}]", undoes)
            for i, (adjoint, undoes) in enumerate(adjoints)
        ]

    def _pointwise(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        live: list[tuple[Tensor, Expression]],
        shape: tuple[int, ...],
    ) -> Expression | None:
        """Return what an element-wise operation makes of what is live; None: nobody knows."""
        tensor, expression = live[0]
        if any(tuple(t.shape) != shape for t, _ in live):
            return None
        known = {id(t) for t, _ in live}
        others = [t for t in given if id(t) not in known and t.dim()]
        whole = base(expression)
        alike = all(base(e) is whole for _, e in live)
        if others and name not in RANDOM:
            return _with_constant(name, args, kwargs, live, others[0], self._rows, shape)
        if len(live) == 1 and not isinstance(expression, Unit):
            factor = _factor(name, args, kwargs)
            if factor is not None:
                return Sum(((expression, factor),))
        before = self._value_of(whole, live) if alike else None
        if before is None and len(live) == 1:
            whole, before = expression, self._keep(tensor)
        if before is not None:
            operation = "·".join([*dict.fromkeys(_names(e) for _, e in live), name])
            return Unit(whole, before, next(self._numbers), operation)
        if name in ("add", "sub") and len(live) == 2 and not set(kwargs) - {"alpha"}:
            second = float(kwargs.get("alpha", 1)) * (1 if name == "add" else -1)
            return Sum(((live[0][1], 1.0), (live[1][1], second)))
        return None

    def _value_of(self, whole: Expression, live: list[tuple[Tensor, Expression]]) -> int | None:
        """Return the number under which the value of `whole` is kept; None: it is not at hand."""
        for tensor, expression in live:
            if isinstance(expression, Unit):
                return expression.before
            if expression is whole:
                return self._keep(tensor)
        return -1 if isinstance(whole, Activity) else None  # an activity is reported

    def _keep(self, tensor: Tensor) -> int:
        """Keep a value as it was before the present operation, and return its number."""
        number = self._number[_key(tensor)]
        if number not in self._values:
            self._values[number] = self._before.get(_key(tensor), tensor).detach().clone()
        return number

    def _joined(self, name: str, args: tuple[Any, ...], out: Tensor) -> Expression:
        """A concatenation is a sum of parts that were each moved to their place."""
        dim = (args[1] if len(args) > 1 else 0) % out.dim()
        terms: list[tuple[Expression, float]] = []
        start = 0
        for part in args[0]:
            expression = self._expression(part)
            width = 1 if name == "stack" else part.shape[dim]
            if expression is not None:
                if dim == 0:
                    return Opaque((expression,), name)
                take = _select(dim, start) if name == "stack" else _narrow(dim, start, width)
                terms.append((Moved(expression, take, f"{name} {start}"), 1.0))
            start += width
        return Sum(tuple(terms))


RANDOM = ("bernoulli", "poisson", "binomial")
RESHAPES = ("view", "_unsafe_view", "reshape", "flatten", "squeeze", "unsqueeze", "_reshape_copy")
COPIES = ("alias", "detach", "clone", "contiguous", "_to_copy", "lift_fresh", "expand")


def moved(
    name: str, args: tuple[Any, ...], tensor: Tensor, results: list[Tensor]
) -> list[tuple[Callable[[Tensor], Tensor], bool]] | None:
    """Return the adjoints of an operation that moves or averages numbers; None: it is another.

    Args:
        name: of the operation, as in `torch.ops.aten`.
        args: of the operation.
        tensor: what it acts on, (rows, ...).
        results: what it gave.

    Returns:
        One adjoint per result, and whether it also undoes the operation.
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
    if name in ("unbind", "split", "split_with_sizes", "chunk"):
        return _pieces(name, args, tensor, results)
    return None


def _names(expression: Expression) -> str:
    return expression.operation if isinstance(expression, Unit) else "·"


def _factor(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Return the factor on the one live tensor in an affine operation; None: it is another."""
    if name == "neg":
        return -1.0
    if len(args) < 2 or kwargs or not isinstance(args[0], Tensor):
        return None
    if name in ("add", "sub") or (name == "rsub" and len(args) == 2):
        return -1.0 if name == "rsub" else 1.0
    if name in ("mul", "div") and isinstance(args[1], int | float):
        return float(args[1]) if name == "mul" else 1 / args[1]
    return None


def _with_constant(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    live: list[tuple[Tensor, Expression]],
    constant: Tensor,
    rows: int,
    shape: tuple[int, ...],
) -> Expression | None:
    """Return what an operation with a tensor that is no activity makes; None: nobody knows.

    Adding it changes no difference; multiplying with it, or dividing by it, is linear.
    """
    tensor, expression = live[0]
    if len(live) > 1 or kwargs or len(args) != 2:
        return None
    if name in ("add", "sub"):
        return Sum(((expression, 1.0 if name == "add" or args[0] is tensor else -1.0),))
    if name == "mul" or (name == "div" and args[0] is tensor):
        factor = (constant if name == "mul" else 1 / constant).detach().clone()
        batched = factor.dim() == len(shape) and len(factor) == rows

        def adjoint(c: Tensor) -> Tensor:
            return c * (factor[: len(c)] if batched else factor).to(c.dtype)

        return Moved(expression, adjoint, name)
    return None


def max_pool_adjoint(credit: Tensor, before: Tensor, settings: tuple[Any, ...]) -> Tensor:
    """Give each window's credit to where its largest value was.

    Args:
        credit: of the pooled values, (B, C, H', W').
        before: what was pooled, (B, C, H, W).
        settings: kernel size, stride, padding, dilation and so on, as `max_pool2d` takes them.
    """
    _, where = F.max_pool2d(before, *settings, return_indices=True)
    flat = torch.zeros_like(before).flatten(2)
    return flat.scatter_add_(2, where.flatten(2), credit.flatten(2)).view_as(before)


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
    """Zeros with `c` where it was selected or sliced from."""
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
    """Credit of an average, shared by its window: a transposed convolution with equal weights."""
    size, stride, padding = (list(settings) + [None, [], 0][len(settings) :])[:3]
    size = [size, size] if isinstance(size, int) else list(size)
    size = size * 2 if len(size) == 1 else size
    stride = list(stride) if isinstance(stride, list | tuple) and stride else size
    kernel = c.new_full((1, 1, *size), 1 / (size[0] * size[1]))
    flat = c.reshape(-1, 1, *c.shape[2:])
    whole = conv2d_input((len(flat), 1, *inner[1:]), kernel, flat, stride=stride, padding=padding)
    return whole.view(len(c), *inner)


def _select(dim: int, index: int) -> Callable[[Tensor], Tensor]:
    return lambda c: c.select(dim, index)


def _narrow(dim: int, start: int, width: int) -> Callable[[Tensor], Tensor]:
    return lambda c: c.narrow(dim, start, width)


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested arguments or results, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _key(tensor: Tensor) -> Key:
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
    )
