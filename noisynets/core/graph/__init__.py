"""The graph: what lies between the nodes, read off the operations of one traced pass."""

from noisynets.core.graph.expressions import (
    Activity,
    Expression,
    Graph,
    LinearOp,
    MaxPool,
    Opaque,
    Sum,
    Unit,
)
from noisynets.core.graph.tracer import Tracer

__all__ = [
    "Activity",
    "Expression",
    "Graph",
    "LinearOp",
    "MaxPool",
    "Opaque",
    "Sum",
    "Tracer",
    "Unit",
]
