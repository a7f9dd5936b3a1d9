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
from noisynets.core.graph.plan import Plan, Stretch, operation_names, plan_of
from noisynets.core.graph.rerun import Rerun
from noisynets.core.graph.tracer import Tracer
from noisynets.core.graph.traces import Traces, TracesByShape

__all__ = [
    "Activity",
    "Adjoint",
    "Digital",
    "Expression",
    "Graph",
    "LinearOp",
    "MaxPool",
    "Opaque",
    "Plan",
    "Rerun",
    "Stretch",
    "Sum",
    "Tracer",
    "Traces",
    "TracesByShape",
    "Trained",
    "Unit",
    "operation_names",
    "plan_of",
    "whole",
]
