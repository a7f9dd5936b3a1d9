"""What pairs teach about a system: the gains of its units, and the maps of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from noisynets.core.graph import Unit
from noisynets.core.types import Node, Report, Wrapper
from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.mirror import Mirror, Transport, has_mirror
from noisynets.rules.credit.pair import Pair


class ByName:
    """Gates by the name of what they belong to, and how often they have learnt."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._updates = 0

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        found = nested({name: gate.state() for name, gate in self._gates.items()})
        return found | {"updates": torch.tensor(self._updates)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._updates = int(state["updates"])
        self._gates.clear()
        for name, part in unnested({k: v for k, v in state.items() if k != "updates"}).items():
            self._gates[name] = Gate()
            self._gates[name].restore(part)


class Gates(ByName):
    """One measured gate for every kind of unit in a system."""

    def update_(self, pair: Pair) -> None:
        """Learn every kind of unit, from one of its places after the other."""
        for name, units in pair.units().items():
            unit = units[self._updates % len(units)]
            a, shift = pair.given(unit)
            self._gates.setdefault(name, Gate()).update_(a, shift[0], pair.response(unit)[0])
        self._updates += 1

    def __call__(self, unit: Unit, pair: Pair) -> Tensor:
        """Gain of a unit at each of its inputs in the reference pass, (B, ...)."""
        return self._gates[pair.kind(unit)](pair.given(unit)[0])

    def of_activity(self, call: int, pair: Pair) -> Tensor:
        """Gain of the unit right behind a call's activity, (B, *out); 1 where there is none."""
        a = pair.activity(call)
        behind = pair.wiring.behind.get(call)
        return torch.ones_like(a) if behind is None else self(behind, pair)


def in_turn(reports: Sequence[Report], turn: int) -> list[Report]:
    """Return one report of every node: of one of its calls after the other."""
    calls: dict[str, list[Report]] = {}
    for report in reports:
        calls.setdefault(report.node.name, []).append(report)
    return [same[turn % len(same)] for same in calls.values()]


class Maps:
    """What each node makes of a difference of its inputs."""

    def __init__(self, new: Callable[[Node], Mirror | Transport]) -> None:
        self._new = new
        self._maps: dict[str, Mirror | Transport] = {}
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._updates = 0

    def update_(self, pair: Pair) -> None:
        """Learn the map of every node, from one of its calls after the other."""
        fed = [r for r in pair.reports if r.shift is not None and has_mirror(geometry(r.node))]
        for report in in_turn(fed, self._updates):
            known = self._known(report.node)
            if known is None:
                known = self._maps[report.node.name] = self._new(report.node)
            assert report.shift is not None
            made = report.delta if report.xi is None else report.delta - report.xi
            known.update_(report.shift.flatten(0, 1), made.flatten(0, 1))
        self._updates += 1

    def __contains__(self, node: Node) -> bool:
        return self._known(node) is not None

    def __getitem__(self, node: Node) -> Mirror | Transport:
        known = self._known(node)
        if known is None:
            raise KeyError(node.name)
        return known

    def _known(self, node: Node) -> Mirror | Transport | None:
        """Return the map of a node, which may have been restored before the node was met."""
        if node.name in self._kept:
            known = self._maps[node.name] = self._new(node)
            known.restore(self._kept.pop(node.name), next(node.layer.parameters()).device)
        return self._maps.get(node.name)

    def innovations(self, pair: Pair) -> list[Tensor]:
        """ε = δa − M δx, per call (K, B, *out): what entered at the node itself."""
        return [self._innovation(report) for report in pair.reports]

    def _innovation(self, report: Report) -> Tensor:
        if report.xi is not None:
            return report.xi
        known = self._known(report.node)
        if report.shift is None or known is None:
            return report.delta
        return report.delta - known.predict(report.shift.flatten(0, 1)).view_as(report.delta)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        found = nested(self._kept | {name: known.state() for name, known in self._maps.items()})
        return found | {"updates": torch.tensor(self._updates)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`; a map is restored when its node is met."""
        self._maps.clear()
        self._updates = int(state["updates"])
        self._kept = unnested({k: v for k, v in state.items() if k != "updates"})


class Turns:
    """When feedback learns: in all of the first 200 steps, and in every fourth after them.

    What it has learnt then holds in between, where no pair of passes is needed.
    """

    ALWAYS, EVERY = 200, 4

    def __init__(self) -> None:
        self._step = 0

    @property
    def due(self) -> bool:
        """Whether it learns in this step."""
        return self._step < self.ALWAYS or self._step % self.EVERY == 0

    def take(self) -> bool:
        """Go on to the next step; return whether it learns in this one."""
        learns = self.due
        self._step += 1
        return learns

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return {"step": torch.tensor(self._step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._step = int(state["step"])


def geometry(node: Node) -> nn.Module:
    """Return the layer inside all wrappers, for its geometry."""
    return node.layer.core[1] if isinstance(node.layer, Wrapper) else node.layer


def nested(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Flatten a tree by one level, with a bar between the names.

    >>> nested({"a": {"b": torch.ones(())}})
    {'a|b': tensor(1.)}
    """
    return {f"{a}|{b}": value for a, part in state.items() for b, value in part.items()}


def unnested(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Undo `nested`."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        first, rest = name.split("|", 1)
        found.setdefault(first, {})[rest] = value
    return found
