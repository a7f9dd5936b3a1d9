"""What pairs teach about a system: the gains of its units, and the maps of its layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noisynets.feedback.gate import Gate
from noisynets.feedback.mirror import Mirror, Transport, has_mirror
from noisynets.feedback.pair import Pair
from noisynets.feedback.wiring import Unit
from noisynets.types import Node, Report, Wrapper


class Gates:
    """One measured gate for every kind of unit in a system."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}
        self._step = 0

    def update_(self, pair: Pair) -> None:
        """Learn every kind of unit whose turn it is, from one of its places after the other."""
        for turn, (name, units) in enumerate(pair.units().items()):
            if name in self._gates and not due(self._step + turn):
                continue
            unit = units[self._step % len(units)]
            a, shift = pair.given(unit)
            self._gates.setdefault(name, Gate()).update_(a, shift[0], pair.response(unit)[0])
        self._step += 1

    def __call__(self, unit: Unit, pair: Pair) -> Tensor:
        """Gain of a unit at each of its inputs in the reference pass, (B, ...)."""
        return self._gates[pair.kind(unit)](pair.given(unit)[0])

    def of_activity(self, call: int, pair: Pair) -> Tensor:
        """Gain of the unit right behind a call's activity, (B, *out); 1 where there is none."""
        a = pair.activity(call)
        behind = pair.wiring.behind.get(call)
        return torch.ones_like(a) if behind is None else self(behind, pair)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        found = nested({name: gate.state() for name, gate in self._gates.items()})
        return found | {"step": torch.tensor(self._step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._step = int(state["step"])
        self._gates.clear()
        for name, part in unnested({k: v for k, v in state.items() if k != "step"}).items():
            self._gates[name] = Gate()
            self._gates[name].restore(part)


class Maps:
    """What each node makes of a difference of its inputs."""

    def __init__(self, new: Callable[[Node], Mirror | Transport]) -> None:
        self._new = new
        self._maps: dict[str, Mirror | Transport] = {}
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._step = 0

    def update_(self, pair: Pair) -> None:
        """Learn the map of every node whose turn it is, from one of its calls after the other."""
        calls: dict[str, list[Report]] = {}
        for report in pair.reports:
            if report.shift is not None and has_mirror(geometry(report.node)):
                calls.setdefault(report.node.name, []).append(report)
        for turn, (name, reports) in enumerate(calls.items()):
            if name in self._kept:
                self._maps[name] = self._new(reports[0].node)
                self._maps[name].restore(self._kept.pop(name), reports[0].delta.device)
            known = self._maps.get(name)
            if known is not None and not due(self._step + turn):
                continue
            report = reports[self._step % len(reports)]
            if known is None:
                known = self._maps[name] = self._new(report.node)
            assert report.shift is not None
            made = report.delta if report.xi is None else report.delta - report.xi
            known.update_(report.shift.flatten(0, 1), made.flatten(0, 1))
        self._step += 1

    def __contains__(self, node: Node) -> bool:
        return node.name in self._maps

    def __getitem__(self, node: Node) -> Mirror | Transport:
        return self._maps[node.name]

    def innovations(self, pair: Pair) -> list[Tensor]:
        """ε = δa − M δx, per call (K, B, *out): what entered at the node itself."""
        return [self._innovation(report) for report in pair.reports]

    def _innovation(self, report: Report) -> Tensor:
        if report.xi is not None:
            return report.xi
        known = self._maps.get(report.node.name)
        if report.shift is None or known is None:
            return report.delta
        return report.delta - known.predict(report.shift.flatten(0, 1)).view_as(report.delta)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        found = nested(self._kept | {name: known.state() for name, known in self._maps.items()})
        return found | {"step": torch.tensor(self._step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`; a map is restored when its node is met."""
        self._maps.clear()
        self._step = int(state["step"])
        self._kept = unnested({k: v for k, v in state.items() if k != "step"})


ALWAYS, EVERY = 200, 4


def due(step: int) -> bool:
    """Whether it is somebody's turn to learn: in the first steps always, later every fourth."""
    return step < ALWAYS or step % EVERY == 0


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
