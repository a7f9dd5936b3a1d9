"""Watching a pass: which operations make each node's input out of activities, and their values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from noisynets.core.adjoints import (
    COPIES,
    RANDOM,
    factor_of,
    moved,
    names,
    narrowed,
    selected,
    with_constant,
)
from noisynets.core.graph import (
    Activity,
    Expression,
    MaxPool,
    Moved,
    Opaque,
    Sum,
    Unit,
    Wiring,
    base,
)
from noisynets.core.types import Node, Population

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


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
            return with_constant(name, args, kwargs, live, others[0], self._rows, shape)
        if len(live) == 1 and not isinstance(expression, Unit):
            factor = factor_of(name, args, kwargs)
            if factor is not None:
                return Sum(((expression, factor),))
        before = self._value_of(whole, live) if alike else None
        if before is None and len(live) == 1:
            whole, before = expression, self._keep(tensor)
        if before is not None:
            operation = "·".join([*dict.fromkeys(names(e) for _, e in live), name])
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
                take = selected(dim, start) if name == "stack" else narrowed(dim, start, width)
                terms.append((Moved(expression, take, f"{name} {start}"), 1.0))
            start += width
        return Sum(tuple(terms))


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
