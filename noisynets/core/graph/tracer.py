"""The tracer: records the operations of one pass, and builds the graph from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.errors import SystemRefused
from noisynets.core.graph.expressions import Activity, Expression, Graph, Unit
from noisynets.core.graph.plan import plain
from noisynets.core.graph.program import LARGEST, Writer
from noisynets.core.graph.trace import Trace
from noisynets.core.graph.traces import Traces
from noisynets.core.graph.values import Held
from noisynets.core.modes import Mode, Pause
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
        if self._declared.operations:
            words = {word for word in self._declared.operations if word in plain(name)}
            self.met |= words
            if words:
                return True
        return self._running > 0

    def _enters(self, module: nn.Module, args: Any) -> None:
        self._running += 1

    def _leaves(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running -= 1


class PopulationHooks:
    """Makes the output of a population a unit of its input.

    Args:
        trace: of the pass.
        populations: by path.

    Attributes:
        inside: populations that are running, with their inputs.
        finished: what follows is not traced.
    """

    def __init__(self, trace: Trace, populations: Mapping[str, Population]) -> None:
        self._trace, self._populations = trace, populations
        self.inside: dict[str, Expression | None] = {}
        self.finished = False
        self._units: dict[str, Held] = {}

    def hooks(self) -> list[RemovableHandle]:
        """Register the hooks; the caller removes them."""
        handles: list[RemovableHandle] = []
        for name, population in self._populations.items():
            enters = self._enters(name)
            handles.append(population.register_forward_pre_hook(enters, with_kwargs=True))
            handles.append(population.register_forward_hook(self._leaves(name)))
        return handles

    def _enters(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            current = _first(args, kwargs)
            values = self._trace.values
            self.inside[name] = None if self.finished else values.expression(current)

        return hook

    def _leaves(self, name: str) -> Callable[..., None]:
        def hook(module: Population, args: Any, output: Tensor) -> None:
            made, values = self.inside.pop(name), self._trace.values
            if made is not None:
                kind, key = type(module).__name__, values.new_key()
                self._units[name] = self._trace.made(
                    (name, made, kind, output.shape, output.dtype),
                    lambda: Unit(made, -1, key, kind, population=name),
                )
            if name in self._units and (not self.finished or module.final):
                values.set_(output, self._units[name])

        return hook


class Tracer(Mode):
    """Records the operations of one pass. The probe registers its hooks and enters it.

    It is inactive while a node runs that is a layer of PyTorch, and the probe's hooks on it.

    Args:
        survey: of the system.
        rows: of the stacked batch.
        populations: by path, where the record holds means over a trial: what is inside them is
            not traced, and only the first step is. None: every call is traced.
        stepped: modules that run through a whole trial; what follows them is traced again.
        traces: of earlier passes, to which this one is added.
        writes: a program may be written.

    Attributes:
        values: what all tensors hold.
        kept: the values that credit needs.
    """

    def __init__(
        self,
        survey: Survey,
        rows: int,
        populations: Mapping[str, Population] | None = None,
        stepped: Sequence[Stepped] = (),
        traces: Traces | None = None,
        writes: bool = False,
    ) -> None:
        super().__init__()
        self._survey, self._rows = survey, rows
        self._traces = Traces() if traces is None else traces
        self._last = self._traces.last(rows)
        self._trace = Trace(self._last, rows, survey.parameters)
        self.values, self.kept = self._trace.values, self._trace.values.kept
        self._over_trial = populations is not None
        self._populations = PopulationHooks(self._trace, populations or {})
        self._called: set[int] = set()
        self._stepped, self._ended = stepped, False
        self._after: list[Expression] = []  # what was made once a trial had ended
        self._entered: dict[int, Expression | None] = {}  # by index of the node
        self._calls: list[tuple[Node, Expression | None]] = []
        self._physical = PhysicalParts(survey.physical)
        self._pause = Pause()
        most = LARGEST * len(self._last.entries)
        self._writer = Writer(most) if writes and self._traces.wants_program(rows) else None

    def begin(self, inputs: Any) -> None:
        """State the inputs of the system."""
        if self._writer is not None:
            self._writer.begin(leaves(inputs))

    def hooks(self) -> list[RemovableHandle]:
        """Register the hooks that come after those of the probe; the caller removes them."""
        handles = [
            node.outlet.register_forward_hook(self._node_leaves(i, node))
            for i, node in enumerate(self._survey.nodes)
        ]
        handles += self._populations.hooks()
        handles += [m.register_forward_hook(self._trial_ends) for m in self._stepped]
        return handles + self._physical.hooks()

    def first_hooks(self) -> list[RemovableHandle]:
        """Register the hooks that come before those of the probe; the caller removes them."""
        handles = []
        for i, (node, builtin) in enumerate(
            zip(self._survey.nodes, self._survey.builtin, strict=True)
        ):
            inlet = node.inlet
            hooked = bool(inlet._forward_hooks or inlet._forward_pre_hooks)  # may change its input
            enters = self._node_enters(i, builtin and inlet is node.outlet and not hooked)
            handles.append(inlet.register_forward_pre_hook(enters, with_kwargs=True))
        return handles

    def graph(self, output: Any, error: Sequence[Tensor | None] | None = None) -> Graph:
        """Return the graph of a pass from its output; tensors without an `error` are left out.

        It is that of the last pass if nothing is new.
        """
        tensors = leaves(output)
        found = [self.values.expression(tensor) for tensor in tensors]
        pairs = zip(found, error or tensors, strict=True)
        made = tuple(None if e is None else expression for expression, e in pairs)
        names = tuple(node.name for node, _ in self._calls)
        inputs = tuple(expression for _, expression in self._calls)
        after = frozenset(self._after)
        physical = frozenset(self._physical.met)
        graph = Graph(names, inputs, made, self._over_trial, after, physical)
        last = self._last.graph
        graph = last if last is not None and last.same(graph) else graph
        now = self._trace.now
        now.end(graph, self.values.key, self._last)
        self._traces.keep(self._rows, now)
        if self._writer is not None and now.repeats:
            self._traces.keep_program(self._rows, self._writer.program(graph, tensors, found))
        return graph

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation, and record the expressions of its results."""
        name, mutates = self._traces.facts(func)
        if self._entered or self._populations.finished or self._populations.inside:
            if mutates:
                self.values.kept.protect(leaves((args, kwargs)))
            return func(*args, **kwargs)
        physical = self._physical(name)
        out, entry = self._trace.operation(func, args, kwargs, name, mutates, physical)
        if self._ended and entry is not None:
            self._after += [held.expression for held in entry.made if held is not None]
        if self._writer is not None:
            self._writer.operation(func, args, kwargs, out, entry, self.values)
        return out

    def _node_enters(self, node: int, pauses: bool) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._over_trial:  # of which the first step alone is traced
                self._populations.finished |= node in self._called
                self._called.add(node)
            if not self._populations.finished:
                self._entered[node] = self.values.expression(_first(args, kwargs))
                if self._writer is not None:
                    self._writer.call_begins(_first(args, kwargs))
            if pauses:
                self._pause.begin(self, module)

        return hook

    def _node_leaves(self, index: int, node: Node) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self._pause.end(module)
            if not self._populations.finished:
                made = self._entered.pop(index)
                call = len(self._calls)
                what = (node, call, output.shape, output.dtype)
                self.values.set_(output, self._trace.made(what, lambda: Activity(call)))
                self._calls.append((node, made))
                if self._writer is not None:
                    self._writer.call_ends(output)

        return hook

    def __exit__(self, *error: Any) -> None:
        """Become inactive, also if a node has failed."""
        self._pause.close()
        if self._survey.stateful:
            self.values.kept.protect_all()  # states are reset, perhaps in place
        super().__exit__(*error)

    def _trial_ends(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._ended:
            raise _two_trials(module)
        self._populations.finished, self._ended = False, True


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value


def _two_trials(module: nn.Module) -> SystemRefused:
    return SystemRefused(
        f"{type(module).__name__}: runs two trials in one pass, of which feedback keeps the mean: "
        "stack both as rows or steps of one trial, or use rule 'np' or 'anp'"
    )
