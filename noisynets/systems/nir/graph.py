"""A NIR graph in the making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.systems.nir.package import refused

Shape = tuple[int, ...]


class Signal(NamedTuple):
    """What flows between modules: the sum of the outputs of some nodes.

    Attributes:
        nodes: their names.
        shape: of one sample.
    """

    nodes: tuple[str, ...]
    shape: Shape

    @staticmethod
    def sum(signals: Sequence[Signal]) -> Signal:
        """Return the sum of some signals.

        Raises:
            InputError: if a node would be counted twice, or shapes differ.
        """
        nodes = tuple(chain.from_iterable(s.nodes for s in signals))
        if len({*nodes}) < len(nodes):
            raise InputError(f"the output of {nodes[-1]!r} is added to itself", page=Page.NIR)
        shapes = {s.shape for s in signals}
        if len(shapes) > 1:
            raise InputError(f"outputs of shapes {sorted(shapes)} are added", page=Page.NIR)
        return Signal(nodes, signals[0].shape)


@dataclass
class Graph:
    """Collects nodes and edges.

    Attributes:
        nir: the package.
        dt: Δt in seconds.
        approximate: neurons that subtract are written as if they were reset to zero.
        nodes: by name.
        edges: (from, to).
    """

    nir: Any
    dt: float
    approximate: bool
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, shape: Shape) -> Signal:
        """Add the Input."""
        self.nodes["input"] = self.nir.Input(np.array(shape))
        return Signal(("input",), shape)

    def add(self, name: str, node: Any, signal: Signal, shape: Shape | None = None) -> Signal:
        """Add a node.

        Args:
            name: of it.
            node: of nir.
            signal: that enters it.
            shape: of its outputs; None: that of the signal.

        Returns:
            What leaves it.
        """
        if name in self.nodes or name == "output":
            raise refused(name, type(node).__name__, "this name is taken: rename the module")
        shape = signal.shape if shape is None else shape
        node.input_type = {"input": np.array(signal.shape)}
        node.output_type = {"output": np.array(shape)}
        self.nodes[name] = node
        self.edges += [(source, name) for source in signal.nodes]
        return Signal((name,), shape)

    def made(self, signal: Signal, metadata: dict[str, Any]) -> Any:
        """Add the Output, and return the graph of nir."""
        self.add_output(signal)
        metadata = {"dt": self.dt, **metadata}
        return self.nir.NIRGraph(nodes=self.nodes, edges=self.edges, metadata=metadata)

    def add_output(self, signal: Signal) -> None:
        """Add the Output."""
        self.nodes["output"] = self.nir.Output(np.array(signal.shape))
        self.edges += [(source, "output") for source in signal.nodes]
