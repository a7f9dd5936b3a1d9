"""Watches the calls of the nodes in a pass, of which the rest is computed again by a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.graph.expressions import Graph
from noisynets.core.graph.kept import Kept
from noisynets.core.graph.program import Program
from noisynets.core.trees import leaves
from noisynets.core.types import Node


class Rerun:
    """Watches one pass. It takes the place of a tracer, which sees every operation.

    Args:
        nodes: of the system.
        program: of its forward.

    Attributes:
        kept: the values that credit needs, once `fits` has returned True.
    """

    def __init__(self, nodes: Sequence[Node], program: Program) -> None:
        self.kept = Kept()
        self._nodes, self._program = nodes, program
        self._inputs: list[Tensor] = []
        self._seen: list[tuple[Tensor, int | None]] = []  # with their versions
        self._entering: list[Tensor] = []
        self._activities: list[Tensor] = []

    def begin(self, inputs: Any) -> None:
        """State the inputs of the system."""
        self._inputs = leaves(inputs)
        self._note(self._inputs)

    def first_hooks(self) -> list[RemovableHandle]:
        """Register no hooks that come before those of the probe."""
        return []

    def hooks(self) -> list[RemovableHandle]:
        """Register the hooks that come after those of the probe; the caller removes them."""
        return [
            node.outlet.register_forward_hook(self._watch(), with_kwargs=True)
            for node in self._nodes
        ]

    def __enter__(self) -> Rerun:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def fits(self, outputs: Any) -> bool:
        """Return True if the pass did what the program does; `kept` is made."""
        if any(version is None or tensor._version != version for tensor, version in self._seen):
            return False
        made = [*self._entering, *leaves(outputs)]
        kept = self._program.kept(self._inputs, self._activities, made)
        for seen in (self._inputs, self._entering, self._activities, self._seen):
            seen.clear()  # memory
        self.kept = self.kept if kept is None else kept
        return kept is not None

    def graph(self, output: Any, error: Sequence[Tensor | None] | None = None) -> Graph:
        """Return the graph of the pass; output tensors without an `error` are left out."""
        graph, outputs = self._program.graph, self._program.outputs
        made = tuple(
            None if e is None else of for of, e in zip(outputs, error or outputs, strict=True)
        )
        return graph if made == graph.outputs else replace(graph, outputs=made)

    def _watch(self) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            entering = args[0] if args else next(iter(kwargs.values()))
            self._entering.append(entering)
            self._activities.append(output)
            self._note((entering, output))

        return hook

    def _note(self, tensors: Sequence[Tensor]) -> None:
        """Keep in mind how often tensors were changed in place; of some nobody counts."""
        self._seen += [(t, None if t.is_inference() else t._version) for t in tensors]
