"""The tracer: records the operations of one pass, and builds the graph from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from noisynets.core.errors import SystemRefused
from noisynets.core.graph.expressions import Activity, Expression, Graph, Unit
from noisynets.core.graph.operations import Operation, expressions_of, is_pointwise
from noisynets.core.graph.values import Values
from noisynets.core.trees import leaves
from noisynets.core.trial import Population, Stepped
from noisynets.core.types import Node


class Tracer(TorchDispatchMode):
    """Records the operations of one pass. The probe registers its hooks and enters it.

    Args:
        nodes: whose calls are recorded.
        rows: of the stacked batch.
        populations: by path, where the record holds means over a trial: what is inside them is
            not traced, and only the first step is. None: every call is traced.
        stepped: modules that run through a whole trial; what follows them is traced again.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        rows: int,
        populations: Mapping[str, Population] | None = None,
        stepped: Sequence[Stepped] = (),
    ) -> None:
        super().__init__()
        self.values = Values()
        self._nodes = nodes
        self._rows = rows
        self._populations = populations
        self._called: set[Node] = set()
        self._finished = False  # the first step of a trial
        self._stepped, self._ended = stepped, False
        self._after: list[Expression] = []  # what was made once a trial had ended
        self._inside: dict[str, Expression | None] = {}
        self._units: dict[str, Unit] = {}
        self._entered: dict[Node, Expression | None] = {}
        self._calls: list[tuple[Node, Expression | None]] = []

    def hooks(self) -> list[RemovableHandle]:
        """Register hooks on nodes and populations; the caller removes them."""
        handles: list[RemovableHandle] = []
        for node in self._nodes:
            handles.append(
                node.inlet.register_forward_pre_hook(self._node_enters(node), with_kwargs=True)
            )
            handles.append(node.outlet.register_forward_hook(self._node_leaves(node)))
        for name, population in (self._populations or {}).items():
            enters = self._population_enters(name)
            handles.append(population.register_forward_pre_hook(enters, with_kwargs=True))
            handles.append(population.register_forward_hook(self._population_leaves(name)))
        handles += [m.register_forward_hook(self._trial_ends) for m in self._stepped]
        return handles

    def graph(self, output: Any, error: Sequence[Tensor | None] | None = None) -> Graph:
        """Return the graph of a pass from its output; tensors without an `error` are left out."""
        tensors = leaves(output)
        made = tuple(
            None if e is None else self.values.expression(tensor)
            for tensor, e in zip(tensors, error or tensors, strict=True)
        )
        names = tuple(node.name for node, _ in self._calls)
        inputs = tuple(expression for _, expression in self._calls)
        over_trial, after = self._populations is not None, frozenset(self._after)
        return Graph(names, inputs, made, over_trial, after)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not import torch's compiler, which takes seconds, to keep it out of this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out one operation, and record the expressions of its results."""
        kwargs = kwargs or {}
        if self._finished or self._inside:
            return func(*args, **kwargs)
        mutates = func._schema.is_mutable
        given = leaves((args, kwargs))
        self.values.begin(given if mutates else [])
        out = func(*args, **kwargs)
        self._note(func, args, kwargs, given, leaves(out), mutates)
        return out

    def _note(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        results: list[Tensor],
        mutates: bool,
    ) -> None:
        values = self.values
        name = str(func.overloadpacket).removeprefix("aten.")
        live = [(t, e) for t in given if (e := values.expression(t)) is not None]
        op = Operation(
            name.removesuffix("_"),
            args,
            kwargs,
            is_pointwise(func),
            given,
            live,
            results,
            self._rows,
        )
        for tensor, expression in zip(results, expressions_of(op, values), strict=True):
            if mutates:
                values.changed_in_place(tensor)
            elif values.expression(tensor) is not None:
                continue  # a view of the whole: the same numbers in the same place
            values.set_(tensor, expression)
            if self._ended and expression is not None:
                self._after.append(expression)

    def _node_enters(self, node: Node) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            again = self._populations is not None and node in self._called
            self._finished = self._finished or again
            self._called.add(node)
            if not self._finished:
                self._entered[node] = self.values.expression(_first(args, kwargs))

        return hook

    def _node_leaves(self, node: Node) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            if not self._finished:
                self.values.set_(output, Activity(len(self._calls)))
                self._calls.append((node, self._entered.pop(node)))

        return hook

    def _trial_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._ended:
            raise _two_trials(module)
        self._finished, self._ended = False, True

    def _population_enters(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            current = _first(args, kwargs)
            self._inside[name] = None if self._finished else self.values.expression(current)

        return hook

    def _population_leaves(self, name: str) -> Callable[..., None]:
        def hook(module: Population, args: Any, output: Tensor) -> None:
            made = self._inside.pop(name)
            if made is not None:
                kind, key = type(module).__name__, self.values.new_key()
                self._units[name] = Unit(made, -1, key, kind, population=name)
            if name in self._units and (not self._finished or module.final):
                self.values.set_(output, self._units[name])

        return hook


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value


def _two_trials(module: nn.Module) -> SystemRefused:
    return SystemRefused(
        f"{type(module).__name__}: runs two trials in one pass, of which feedback keeps the mean: "
        "stack both as rows or steps of one trial, or use rule 'np' or 'anp'"
    )
