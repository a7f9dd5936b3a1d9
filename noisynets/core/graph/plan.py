"""The plan: which stretch of a system credit passes exactly, by measurement or by learning."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

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
    parts,
)

THE_OUTPUT = "the output"


@dataclass(frozen=True)
class Stretch:
    """What lies between the input of a node, or the output, and the nodes before it.

    Attributes:
        to: path of the node, or `THE_OUTPUT`; of several, 'output 0' and so on.
        calls: of the node that are alike.
        sources: paths of the nodes and parameters from which its input is computed.
        exact: operations with an exact adjoint at the measured values.
        measured: units whose gain is measured from pairs.
        learned: operations that no credit passes; what is before them gets learned credit.
    """

    to: str
    calls: int
    sources: tuple[str, ...]
    exact: tuple[str, ...]
    measured: tuple[str, ...]
    learned: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What `print` shows of it."""
        calls = f" ({self.calls} calls)" if self.calls > 1 else ""
        found = [f"{self.to}{calls}: from {', '.join(self.sources) or 'no activity'}"]
        for what in ("exact", "measured", "learned"):
            names = getattr(self, what)
            found += [f"    {what}: {', '.join(names)}"] if names else []
        return found


@dataclass(frozen=True)
class Plan:
    """How credit travels through a system; `print` shows it.

    Attributes:
        stretches: one per node with inputs that activities reach, and the output, in order.
        learned: paths of nodes with learned credit.
        parameters: paths of trained parameters between the nodes, with how each is trained:
            'exact' or 'weight perturbation'.
    """

    stretches: tuple[Stretch, ...]
    learned: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [line for stretch in self.stretches for line in stretch.lines]
        if self.learned:
            lines.append(f"learned credit: {', '.join(self.learned)}")
        lines += [f"parameter {name}: {how}" for name, how in self.parameters]
        return "\n".join(lines)


def plan_of(
    graph: Graph, learned: Collection[str], parameters: Collection[str], reached: Collection[str]
) -> Plan:
    """Return the plan of a graph.

    Args:
        graph: of one pass.
        learned: paths of nodes with learned credit.
        parameters: paths of trained parameters between the nodes.
        reached: those of them that credit reaches.
    """
    found: dict[tuple[str, Names], int] = {}
    many = len(graph.outputs) > 1
    outputs = [f"output {i}" if many else THE_OUTPUT for i in range(len(graph.outputs))]
    ends = zip((*graph.names, *outputs), (*graph.inputs, *graph.outputs), strict=True)
    for name, made in ends:
        if made is not None:
            key = (name, _stretch(made, graph))
            found[key] = found.get(key, 0) + 1
    stretches = tuple(Stretch(to, calls, *names) for (to, names), calls in found.items())
    how = tuple(
        (name, "exact" if name in reached else "weight perturbation") for name in parameters
    )
    return Plan(stretches, tuple(learned), how)


Names = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _stretch(made: Expression, graph: Graph) -> Names:
    """Return sources, and exact, measured and opaque operations of an expression."""
    inside = parts(made)
    opaque = [p for p in inside if isinstance(p, Opaque) or p in graph.unmeasured]

    def listed(kinds: tuple[type, ...], named: Callable[[Expression], str]) -> tuple[str, ...]:
        chosen = [p for p in inside if isinstance(p, kinds) and p not in opaque]
        return tuple(dict.fromkeys(map(named, chosen)))

    sources = listed((Activity, Trained), lambda p: _source(p, graph))
    exact = listed((LinearOp, Sum, Digital, MaxPool), operation)
    return sources, exact, listed((Unit,), operation), tuple(dict.fromkeys(map(operation, opaque)))


def _source(part: Expression, graph: Graph) -> str:
    return graph.names[part.call] if isinstance(part, Activity) else getattr(part, "name", "")


def operation_names(graph: Graph) -> list[str]:
    """Return the names of all operations of a graph, each once."""
    named = [p for p in graph.parts if not isinstance(p, Activity | Trained)]
    return list(dict.fromkeys(map(operation, named)))


def operation(part: Expression) -> str:
    """Return the name of an expression's operation, as one would write it.

    >>> operation(Opaque((), "_softmax"))
    'softmax'
    """
    if isinstance(part, Unit) and part.population:
        return part.population
    if isinstance(part, Sum):
        return "scale" if len(part.terms) == 1 else "add"
    default = "max_pool" if isinstance(part, MaxPool) else ""
    name: str = getattr(part, "operation", default)
    words = [plain(word) for word in name.split("(")[0].split(" ")[0].split("·") if word]
    return "·".join(words)


def plain(name: str) -> str:
    """Return the name of an operation of `torch.ops.aten` without what marks variants.

    >>> plain("native_layer_norm"), plain("_scaled_dot_product_flash_attention_for_cpu")
    ('layer_norm', 'scaled_dot_product_attention')
    """
    if name.startswith("_scaled_dot_product"):
        return "scaled_dot_product_attention"
    return name.strip("_").removeprefix("native_").removeprefix("unsafe_")
