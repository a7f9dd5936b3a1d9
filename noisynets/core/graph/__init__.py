"""The graph: what lies between the nodes, read off the operations of one traced pass."""

from noisynets.core.graph.applied import Adjoint, whole
from noisynets.core.graph.expressions import (
    Activity,
    Digital,
    Expression,
    Graph,
    LinearOp,
    MaxPool,
    Opaque,
    Sum,
    Trained,
    Unit,
)
from noisynets.core.graph.tracer import Tracer

__all__ = [
    "Activity",
    "Adjoint",
    "Digital",
    "Expression",
    "Graph",
    "LinearOp",
    "MaxPool",
    "Opaque",
    "Sum",
    "Tracer",
    "Trained",
    "Unit",
    "whole",
]
