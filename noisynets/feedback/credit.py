"""Feedback: credit from the output's error, sent down through what pairs of passes have taught."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from noisynets.feedback.direct import Direct, Fixed, Learned
from noisynets.feedback.gate import Gate
from noisynets.feedback.mirror import Mirror, Transport, has_mirror
from noisynets.feedback.pair import Pair, deliver
from noisynets.feedback.wiring import Opaque, Unit, activities
from noisynets.types import Node, Report, Wrapper


@dataclass(frozen=True)
class Traced:
    """Credit in time, to be contracted with traces of the inputs.

    Attributes:
        credit: (B, T, *out).
        x: (B, T, *in).
    """

    credit: Tensor
    x: Tensor


class Feedback(Protocol):
    """Turns what a pair of passes measured into credit, and learns from it."""

    def __call__(self, pair: Pair) -> Sequence[Tensor | Traced | None]:
        """One credit (B, *out) per report, or one in time; None: leave the node untrained."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""


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
        behind = pair.behind.get(call)
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
            known.update_(report.shift.flatten(0, 1), report.delta.flatten(0, 1))
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


class Straight:
    """Credit of every hidden call is F e ∘ gate, straight from the output's error.

    Args:
        new: (name of a call) → its map; `Learned` is taught by the loss differences, `Fixed` is
            random: direct feedback alignment.
    """

    def __init__(self, new: Callable[[str], Direct]) -> None:
        self._new = new
        self._maps = Maps(lambda node: Mirror(geometry(node)))
        self._gates = Gates()
        self._direct: dict[str, Direct] = {}

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        self._gates.update_(pair)
        if pair.intrinsic:
            self._maps.update_(pair)
        credits = pair.from_output(self._gates)
        hidden = set(range(len(pair.reports))) - pair.top
        for call, credit in self.teach(pair, hidden, self._maps, self._gates).items():
            credits[call] = credit
        return list(credits)

    def teach(self, pair: Pair, calls: set[int], maps: Maps, gates: Gates) -> dict[int, Tensor]:
        """Learn from the loss differences, and return the credit of the given calls."""
        error = pair.error.flatten(1)
        estimated = estimates(pair, maps.innovations(pair), pair.from_output(gates))
        found = {}
        names: dict[str, int] = {}
        for call, report in enumerate(pair.reports):
            turn = names[report.node.name] = names.get(report.node.name, -1) + 1
            if call not in calls:
                continue
            name = f"{report.node.name}@{turn}"
            direct = self._direct.get(name)
            if direct is None:
                direct = self._direct[name] = self._new(name)
            gate = gates.of_activity(call, pair)
            if isinstance(direct, Learned):
                direct.update_(estimated[call].flatten(1), error, gate.flatten(1))
            sent = direct(error, gate[0].numel())
            behind = pair.behind.get(call)
            if behind is not None and behind.population:
                pair.arrived[behind.population] = sent.view_as(report.delta[0])
            found[call] = (sent * gate.flatten(1)).view_as(report.delta[0])
        return found

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        direct = nested({name: direct.state() for name, direct in self._direct.items()})
        parts_ = {"maps": self._maps.state(), "gates": self._gates.state(), "direct": direct}
        return nested(parts_)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        parts_ = unnested(state)
        self._maps.restore(parts_["maps"])
        self._gates.restore(parts_["gates"])
        self._direct.clear()
        for name, part in unnested(parts_.get("direct", {})).items():
            self._direct[name] = self._new(name)
            self._direct[name].restore(part)


class Innovation:
    """ĝ = r ε N/‖ε‖² at every node, with ε what entered there: unbiased for small noise.

    ANP's estimate is biased because δa also holds what came from upstream; ε = δa − M δx does not.
    Where the noise is injected, ε is ξ.

    Args:
        share: take the credit at the output from the error e, which is exact, and what its own
            noise did to the loss out of the rest: r = δL − ε_out·e. A control variate.
    """

    def __init__(self, share: bool) -> None:
        self.share = share
        self._maps = Maps(lambda node: Mirror(geometry(node)))
        self._gates = Gates()

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        self._gates.update_(pair)
        if pair.intrinsic:
            self._maps.update_(pair)
        exact = pair.from_output(self._gates) if self.share else None
        found = estimates(pair, self._maps.innovations(pair), exact)
        top = pair.top if exact is not None else frozenset()
        return [exact[c] if exact and c in top else g for c, g in enumerate(found)]

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return nested({"maps": self._maps.state(), "gates": self._gates.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self._maps.restore(found["maps"])
        self._gates.restore(found["gates"])


class Backward:
    """Credit goes down node by node: through a map of each node, and measured gates between.

    credit_l = gate_l ∘ (M_{l+1}ᵀ credit_{l+1}), from credit_output = e. What lies between two nodes
    is seen in the wiring. Activities that are hidden behind something opaque, or feed a node
    that has no mirror, get learned credit instead, and a warning names them.

    Args:
        new: (node) → its map; a `Mirror` learns from pairs, `Transport` is fixed and random:
            feedback alignment.
    """

    def __init__(self, new: Callable[[Node], Mirror | Transport] | None = None) -> None:
        self._maps = Maps(new or (lambda node: Mirror(geometry(node))))
        self._gates = Gates()
        self._straight = Straight(lambda name: Learned())
        self._warned = False

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        self._gates.update_(pair)
        self._maps.update_(pair)
        credits = pair.from_output(self._gates)
        top, hidden = list(credits), self._hidden(pair)
        taught = self._straight.teach(pair, hidden, self._maps, self._gates) if hidden else {}
        for call in reversed(range(len(credits))):
            if call in taught:
                credits[call] = top[call] + taught[call]
            made, report = pair.wiring.inputs[call], pair.reports[call]
            if made is not None and report.node in self._maps:
                below = self._maps[report.node](credits[call], report.raw.shape)
                deliver(made, below, credits, pair, self._gates)
        self._warn(hidden, pair)
        return list(credits)

    def _hidden(self, pair: Pair) -> set[int]:
        """Calls whose activities go into something that credit cannot pass."""
        walled = [
            made
            for made, report in zip(pair.wiring.inputs, pair.reports, strict=True)
            if not has_mirror(geometry(report.node))
        ]
        opaque = [p for p in pair.parts if isinstance(p, Opaque) or p in pair.blind]
        lost = set(range(len(pair.reports))) - activities(*pair.wiring.inputs, pair.wiring.output)
        return activities(*walled, *opaque) | lost

    def _warn(self, hidden: set[int], pair: Pair) -> None:
        if hidden and not self._warned:
            names = ", ".join(sorted({repr(pair.reports[call].node.name) for call in hidden}))
            warnings.warn(
                f"{names}: what lies behind cannot be mirrored, so learned credit is used there",
                stacklevel=2,
            )
            self._warned = True

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return nested(
            {
                "maps": self._maps.state(),
                "gates": self._gates.state(),
                "straight": self._straight.state(),
            }
        )

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self._maps.restore(found["maps"])
        self._gates.restore(found["gates"])
        self._straight.restore(found["straight"])


class Frozen:
    """The output's error trains the last node, and nothing else is trained: the control."""

    def __init__(self) -> None:
        self._gates = Gates()

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report; None for hidden ones."""
        self._gates.update_(pair)
        credits = pair.from_output(self._gates)
        return [credit if call in pair.top else None for call, credit in enumerate(credits)]

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return self._gates.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._gates.restore(state)


def estimates(
    pair: Pair, innovations: list[Tensor], exact: list[Tensor] | None = None
) -> list[Tensor]:
    """ĝ = r ε N/‖ε‖² per call, (B, *out), the mean over K; N and the norm over all calls.

    Args:
        pair: what was measured.
        innovations: ε per call, (K, B, *out).
        exact: credit of the calls at the top, whose share is taken out: r = δL − Σ ε·exact; None:
            r = δL.
    """
    residual = pair.dloss
    for call in pair.top if exact is not None else ():
        assert exact is not None
        residual = residual - (innovations[call] * exact[call]).flatten(2).sum(2)
    size = sum(e[0, 0].numel() for e in innovations)
    draws = [report.draws for report in pair.reports]  # a mean over n has a variance n times less
    pairs = list(zip(innovations, draws, strict=True))
    square = torch.stack([n * e.flatten(2).square().sum(2) for e, n in pairs]).sum(0)
    factor = torch.where(square > 0, residual * size / square, 0)
    return [torch.einsum("kb,kb...->b...", n * factor / len(e), e) for e, n in pairs]


ALWAYS, EVERY = 200, 4


def due(step: int) -> bool:
    """Whether it is somebody's turn to learn: in the first steps always, later every fourth."""
    return step < ALWAYS or step % EVERY == 0


def geometry(node: Node) -> nn.Module:
    """Return the layer inside all wrappers, for its geometry."""
    return node.layer.core[1] if isinstance(node.layer, Wrapper) else node.layer


def mirrored() -> Feedback:
    """Mirrored credit: each node's map is learnt from its measured differences."""
    return Backward()


def learned() -> Feedback:
    """Learned credit: straight from the output's error, taught by the loss differences."""
    return Straight(lambda name: Learned())


def innovation() -> Feedback:
    """The unbiased raw estimate along what entered at each node."""
    return Innovation(share=False)


def share() -> Feedback:
    """The same, with the output's error exact and its share taken out."""
    return Innovation(share=True)


def dfa() -> Feedback:
    """Direct feedback alignment: fixed random maps from the output's error. A control."""
    return Straight(Fixed)


def fa() -> Feedback:
    """Feedback alignment: fixed random maps from node to node. A control."""
    return Backward(lambda node: Transport(geometry(node), node.name))


def frozen() -> Feedback:
    """Hidden nodes stay as they are. A control."""
    return Frozen()


FEEDBACKS: dict[str, Callable[[], Feedback]] = {
    "mirrored": mirrored,
    "learned": learned,
    "innovation": innovation,
    "share": share,
    "dfa": dfa,
    "fa": fa,
    "frozen": frozen,
}


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
