"""The tracer: records the operations of one pass, and builds the graph from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from noisynets.core.errors import SystemRefused
from noisynets.core.graph.expressions import Activity, Expression, Graph, Trained, Unit
from noisynets.core.graph.operations import carried_out, expressions_of
from noisynets.core.graph.plan import plain
from noisynets.core.graph.rows import row_dim
from noisynets.core.graph.values import Values
from noisynets.core.nodes import Declared, Survey
from noisynets.core.trees import leaves
from noisynets.core.trial import Population, Stepped
from noisynets.core.types import Node


class PhysicalParts:
    """Which operations are declared physical.

    Args:
        declared: modules, and words in the names of operations.

    Attributes:
        met: words that named an operation.
    """

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._running = 0  # declared modules
        self.met: set[str] = set()

    def hooks(self) -> list[RemovableHandle]:
        """Register hooks on the modules; the caller removes them."""
        found = [m.register_forward_pre_hook(self._enters) for m in self._declared.modules]
        return found + [m.register_forward_hook(self._leaves) for m in self._declared.modules]

    def __call__(self, name: str) -> bool:
        """Return True if an operation is."""
        words = {word for word in self._declared.operations if word in plain(name)}
        self.met |= words
        return bool(words) or self._running > 0

    def _enters(self, module: nn.Module, args: Any) -> None:
        self._running += 1

    def _leaves(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running -= 1


class Tracer(TorchDispatchMode):
    """Records the operations of one pass. The probe registers its hooks and enters it.

    Args:
        survey: of the system.
        rows: of the stacked batch.
        populations: by path, where the record holds means over a trial: what is inside them is
            not traced, and only the first step is. None: every call is traced.
        stepped: modules that run through a whole trial; what follows them is traced again.

    Attributes:
        values: what all tensors hold.
    """

    def __init__(
        self,
        survey: Survey,
        rows: int,
        populations: Mapping[str, Population] | None = None,
        stepped: Sequence[Stepped] = (),
    ) -> None:
        super().__init__()
        self.values = Values()
        self._survey = survey
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
        self._physical = PhysicalParts(survey.physical)
        for name, parameter in survey.parameters.items():
            self.values.set_(parameter, Trained(parameter, name), None, parametric=True)

    def hooks(self) -> list[RemovableHandle]:
        """Register hooks on nodes and populations; the caller removes them."""
        handles: list[RemovableHandle] = []
        for node in self._survey.nodes:
            handles.append(
                node.inlet.register_forward_pre_hook(self._node_enters(node), with_kwargs=True)
            )
            handles.append(node.outlet.register_forward_hook(self._node_leaves(node)))
        for name, population in (self._populations or {}).items():
            enters = self._population_enters(name)
            handles.append(population.register_forward_pre_hook(enters, with_kwargs=True))
            handles.append(population.register_forward_hook(self._population_leaves(name)))
        handles += [m.register_forward_hook(self._trial_ends) for m in self._stepped]
        return handles + self._physical.hooks()

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
        return Graph(names, inputs, made, over_trial, after, frozenset(self._physical.met))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Do not import torch's compiler, which takes seconds, to keep it out of this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Carry out one operation, and record the expressions of its results."""
        kwargs = kwargs or {}
        if self._finished or self._inside or self._entered:
            return func(*args, **kwargs)
        mutates = func._schema.is_mutable
        given = leaves((args, kwargs))
        self.values.begin(given if mutates else [])
        out = func(*args, **kwargs)
        results = leaves(out)
        if results:
            self._note(func, args, kwargs, given, results)
        return out

    def _note(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        results: list[Tensor],
    ) -> None:
        values, mutates = self.values, func._schema.is_mutable
        if not mutates and not any(map(values.held, given)):
            for tensor in results:
                values.set_(tensor, None)
            return
        op = carried_out(func, args, kwargs, given, results, values, self._rows)
        op.physical = self._physical(op.name)
        for tensor, expression in zip(results, expressions_of(op, values), strict=True):
            row = row_dim(op.name, args, op.measured, tensor, self._rows)
            if mutates:
                values.overwrite(tensor, expression, row, op.of_parameters)
            elif values.held(tensor) is None:  # else a view: the same numbers in the same place
                values.set_(tensor, expression, row, op.of_parameters)
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
