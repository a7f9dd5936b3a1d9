"""The nodes and edges of a NIR graph: nested graphs laid flat, groups of nodes merged, an order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.systems.nir.package import refused

Edge = tuple[str, str]


@dataclass
class Wiring:
    """Nodes and edges, without those of inputs and outputs inside.

    Attributes:
        nodes: by name.
        edges: (from, to).
    """

    nodes: dict[str, Any]
    edges: list[Edge]

    def before(self, name: str) -> list[str]:
        """Return the nodes that lead to a node."""
        return [a for a, b in self.edges if b == name]

    def after(self, name: str) -> list[str]:
        """Return the nodes to which a node leads."""
        return [b for a, b in self.edges if a == name]

    def merge(self, name: str, members: Collection[str], node: Any) -> None:
        """Put one node in the place of some, without the edges between these."""
        edges = [e for e in self.edges if not (e[0] in members and e[1] in members)]
        self.edges = [(name if a in members else a, name if b in members else b) for a, b in edges]
        place = [name if n in members else n for n in self.nodes]
        found = {name: node, **{n: m for n, m in self.nodes.items() if n not in members}}
        self.nodes = {n: found[n] for n in dict.fromkeys(place)}

    def bypass(self, name: str) -> None:
        """Remove a node, and lead what enters it to where it leads."""
        links = [(a, b) for a in self.before(name) for b in self.after(name)]
        self.edges = [e for e in self.edges if name not in e] + links
        del self.nodes[name]


def laid_flat(nir: Any, graph: Any) -> Wiring:
    """Return the wiring of a graph, with the nodes of nested graphs under 'outer.inner'.

    Raises:
        InputError: for what is no NIR graph, and edges that lead nowhere or are there twice.
    """
    if not isinstance(graph, nir.NIRGraph):
        raise InputError(f"{type(graph).__name__}: is no nir.NIRGraph", page=Page.NIR)
    wiring = Wiring(dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges])
    _check(wiring)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            _unpack(nir, wiring, name, laid_flat(nir, node))
    return wiring


def _check(wiring: Wiring) -> None:
    for edge in wiring.edges:
        for end in edge:
            if end not in wiring.nodes:
                raise InputError(f"edge {edge}: there is no node {end!r}", page=Page.NIR)
    twice = {e for e in wiring.edges if wiring.edges.count(e) > 1}
    if twice:
        raise InputError(f"edge {sorted(twice)[0]} is there twice: remove one", page=Page.NIR)


def _unpack(nir: Any, wiring: Wiring, name: str, inner: Wiring) -> None:
    """Put the nodes of a nested graph in its place."""
    ends = {kind: _only(inner, kind, f"{name}.") for kind in (nir.Input, nir.Output)}
    node = {n: f"{name}.{n}" for n in inner.nodes}
    start, end = node[ends[nir.Input]], node[ends[nir.Output]]
    wiring.edges = [(end if a == name else a, start if b == name else b) for a, b in wiring.edges]
    wiring.edges += [(node[a], node[b]) for a, b in inner.edges]
    del wiring.nodes[name]
    wiring.nodes |= {node[n]: found for n, found in inner.nodes.items()}
    wiring.bypass(start)
    wiring.bypass(end)


def _only(wiring: Wiring, kind: type, where: str = "") -> str:
    """Return the name of the one node of a kind.

    Raises:
        InputError: if there is none, or more than one.
    """
    found = [name for name, node in wiring.nodes.items() if isinstance(node, kind)]
    if len(found) != 1:
        names = f" ({', '.join(map(repr, found))})" if found else ""
        raise InputError(
            f"the graph{f' {where[:-1]!r}' if where else ''} has {len(found)} nodes of type "
            f"{kind.__name__}{names}: give one with exactly one",
            page=Page.NIR,
        )
    return found[0]


def ends_of(nir: Any, wiring: Wiring) -> tuple[str, str]:
    """Return the names of the Input and the Output.

    Raises:
        InputError: if there is not exactly one of each, or a node lies on no way between them.
    """
    start, end = _only(wiring, nir.Input), _only(wiring, nir.Output)
    for name, node in wiring.nodes.items():
        if name != start and not wiring.before(name):
            raise refused(name, type(node).__name__, "nothing leads to this node: remove it")
        if name != end and not wiring.after(name):
            raise refused(name, type(node).__name__, "this node leads to no other: remove it")
    return start, end


def in_order(wiring: Wiring) -> Iterator[str]:
    """Yield the names of the nodes, each after all that lead to it.

    Raises:
        InputError: for a loop.
    """
    left, done = dict.fromkeys(wiring.nodes), set[str]()
    while left:
        ready = [n for n in left if all(b in done for b in wiring.before(n))]
        if not ready:
            raise InputError(
                f"nodes {', '.join(map(repr, list(left)[:6]))} are part of a loop, or behind one: "
                "a loop may lead from the neurons of one node through one Affine, Linear, Conv or "
                "Scale back to them",
                page=Page.NIR,
            )
        yield from ready
        done |= set(ready)
        left = {n: None for n in left if n not in done}
