"""The program of a forward: its operations between the nodes, as one graph of `torch.fx`.

A forward that made the same in several traced passes is not traced in the next one. Once that has
ended, its operations between the nodes are carried out again, on its inputs and on the activities
that were recorded. They give the values that credit needs, and must give the inputs of all nodes
and the outputs, to the last bit. Where they do not, the forward did another thing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from noisynets.core.drawing import arguments, draws, is_random
from noisynets.core.graph.adjoints import RANDOM
from noisynets.core.graph.applied import Applied
from noisynets.core.graph.expressions import Expression, Graph, Unit
from noisynets.core.graph.kept import Kept
from noisynets.core.graph.transcript import Entry
from noisynets.core.graph.values import Values
from noisynets.core.trees import leaves

LARGEST = 16_384
"""Numbers that an operation makes on average, at most: more are sooner traced than computed."""

DigitalOperation = tuple[int, Any, tuple[int, ...], tuple[torch.Size, ...]]
"""Of a digital operation: key, the operation, the positions of its live tensors, its shapes."""


@dataclass(frozen=True)
class Program:
    """The operations between the nodes of a pass.

    Attributes:
        graph: of the pass.
        outputs: expression of every output tensor.
        run: leaves → the inputs of all calls and the outputs; stored values; arguments of digital
            operations.
        constants: leaves that are neither inputs nor activities: parameters, buffers, constants.
        given: where each leaf is found: ('input' or 'call' or 'constant', index).
        stored: keys of the stored values.
        digital: the digital operations.
    """

    graph: Graph
    outputs: tuple[Expression | None, ...]
    run: Callable[..., tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Any, ...]]]
    constants: Sequence[Tensor]
    given: Sequence[tuple[str, int]]
    stored: Sequence[int]
    digital: Sequence[DigitalOperation]

    def kept(
        self, inputs: Sequence[Tensor], activities: Sequence[Tensor], made: Sequence[Tensor]
    ) -> Kept | None:
        """Return the values that credit needs; None if the program does not give what was made.

        Args:
            inputs: of the system.
            activities: by call, in the rows of all passes.
            made: the inputs of all calls, and the outputs of the system.
        """
        found = {"input": inputs, "call": activities, "constant": self.constants}
        try:
            again, stored, operands = self.run(*(found[kind][i] for kind, i in self.given))
        except (IndexError, RuntimeError):  # fewer calls, other shapes
            return None
        if len(again) != len(made) or not all(map(_same, again, made)):
            return None
        kept = Kept()
        kept.stored = dict(zip(self.stored, stored, strict=True))
        for (key, func, live, shapes), (args, kwargs) in zip(self.digital, operands, strict=True):
            kept.applied[key] = Applied(func, args, kwargs, live, shapes)
        return kept


class Writer:
    """Writes the program of one traced pass.

    Args:
        most: numbers that its operations may make in all; with more there is no program that pays.

    Attributes:
        possible: nothing in the pass is random, changes a tensor in place, makes too many numbers,
            or is on another device than the CPU, where a comparison would make the host wait.
    """

    def __init__(self, most: int) -> None:
        self.possible, self._most = True, most
        self._graph = fx.Graph()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # so that no other tensor gets its `id`
        self._leaves: list[tuple[str, int]] = []
        self._constants: list[Tensor] = []
        self._entering: list[fx.Node] = []
        self._stored: dict[int, fx.Node] = {}
        self._digital: list[tuple[DigitalOperation, Any]] = []
        self._calls = self._numbers = 0

    def begin(self, inputs: Sequence[Tensor]) -> None:
        """State the inputs of the system."""
        for i, tensor in enumerate(inputs):
            self._leaf("input", i, tensor)

    def call_begins(self, tensor: Tensor) -> None:
        """Note the input of a call."""
        self._entering.append(self._node(tensor))

    def call_ends(self, tensor: Tensor) -> None:
        """Note the activity of a call, in the order of the calls."""
        self._leaf("call", self._calls, tensor)
        self._calls += 1

    def operation(
        self, func: Any, args: Any, kwargs: Any, out: Any, entry: Entry | None, values: Values
    ) -> None:
        """Note an operation, with what the trace made of it; None: it acts on constants alone."""
        results, given = leaves(out), leaves((args, kwargs))
        if not self.possible or not (results or func._schema.is_mutable):
            return
        random = is_random(func) or func.overloadpacket.__name__.removesuffix("_") in RANDOM
        drawn = random and draws(arguments(func, args, kwargs))
        storages = {t.untyped_storage()._cdata for t in given}
        fresh = [t for t in results if t.untyped_storage()._cdata not in storages]
        self._numbers += sum(t.numel() for t in fresh)
        on_host = all(t.device.type == "cpu" for t in results)
        if drawn or func._schema.is_mutable or not on_host or self._numbers > self._most:
            self.possible = False
            self._alive.clear()
            return
        what = map_aggregate((args, kwargs), self._mapped)
        node = self._graph.call_function(func, *what)
        if isinstance(out, Tensor):
            self._made(out, node)
        else:
            for i, tensor in enumerate(out):
                if isinstance(tensor, Tensor):
                    self._made(tensor, self._graph.call_function(operator.getitem, (node, i)))
        if entry is not None:
            self._keep(func, what, given, results, entry, values)

    def program(
        self, graph: Graph, outputs: Sequence[Tensor], made: Sequence[Expression | None]
    ) -> Program | None:
        """Return the program, once the pass has ended; None if there is none.

        Args:
            graph: of the pass.
            outputs: of the system.
            made: the expression of each.
        """
        if not self.possible:
            return None
        ends = (*self._entering, *map(self._node, outputs))
        given = tuple(what for _, what in self._digital)
        self._graph.output((ends, tuple(self._stored.values()), given))
        self._graph.eliminate_dead_code()
        run = fx.GraphModule({}, self._graph).forward
        digital = [op for op, _ in self._digital]
        kept = list(self._stored)
        return Program(graph, tuple(made), run, self._constants, self._leaves, kept, digital)

    def _keep(
        self,
        func: Any,
        what: Any,
        given: list[Tensor],
        results: list[Tensor],
        entry: Entry,
        values: Values,
    ) -> None:
        """Note the values that credit needs of an operation."""
        for i in entry.stored:
            held = values.held(given[i])
            assert held is not None, "only what holds an expression is stored"
            self._stored.setdefault(held.key, self._node(given[i]))
        for tensor, held, sets in zip(results, entry.made, entry.sets, strict=True):
            if held is not None and sets and isinstance(held.expression, Unit):
                self._stored[held.key] = self._node(tensor)
        if entry.applied is not None:
            key, live, shapes = entry.applied
            self._digital.append(((key, func, live, shapes), what))

    def _mapped(self, value: Any) -> Any:
        return self._node(value) if isinstance(value, Tensor) else value

    def _node(self, tensor: Tensor) -> fx.Node:
        """Return what makes a tensor; what nothing is known of is a constant."""
        found = self._nodes.get(id(tensor))
        if found is None:
            self._constants.append(tensor)
            found = self._leaf("constant", len(self._constants) - 1, tensor)
        return found

    def _leaf(self, kind: str, index: int, tensor: Tensor) -> fx.Node:
        self._leaves.append((kind, index))
        node = self._graph.placeholder(f"{kind}_{index}")
        self._made(tensor, node)
        return node

    def _made(self, tensor: Tensor, node: fx.Node) -> None:
        self._nodes[id(tensor)] = node
        self._alive.append(tensor)


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.dtype == other.dtype and torch.equal(one, other))
