"""Feedback: credit from the output's error, sent down through what pairs of passes have taught."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from noisynets.core.graph import Opaque, activities
from noisynets.core.types import Node
from noisynets.rules.credit.direct import Direct, Fixed, Learned
from noisynets.rules.credit.maps import Gates, Maps, Turns, geometry, nested, unnested
from noisynets.rules.credit.mirror import KolenPollack, Mirror, Transport, has_mirror
from noisynets.rules.credit.pair import Pair, deliver
from noisynets.rules.credit.saturation import Ends


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
    """Turns what a pair of passes measured into credit, and learns from it.

    It may have a property `learns`: whether it needs a pair in the next step. Where it says no, it
    is shown the reference pass alone.
    """

    def __call__(self, pair: Pair) -> Sequence[Tensor | Traced | None]:
        """One credit (B, *out) per report, or one in time; None: leave the node untrained."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""


def learns(feedback: Feedback) -> bool:
    """Whether a feedback needs a pair in the next step."""
    return bool(getattr(feedback, "learns", True))


@runtime_checkable
class Mapped(Protocol):
    """A feedback that learns what its nodes make of differences of their inputs.

    Attributes:
        maps: by node.
    """

    maps: Maps


class Straight:
    """Credit of every hidden call is F e ∘ gate, straight from the output's error.

    Args:
        new: (name of a call) → its map; `Learned` is taught by the loss differences, `Fixed` is
            random: direct feedback alignment.
    """

    def __init__(self, new: Callable[[str], Direct]) -> None:
        self._new = new
        self.maps = Maps(lambda node: Mirror(geometry(node)))
        self._gates = Gates()
        self._direct: dict[str, Direct] = {}
        self._turns = Turns()

    @property
    def learns(self) -> bool:
        """Whether it needs a pair in the next step."""
        return self._turns.due

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        learns = self._turns.take()
        if learns:
            self._gates.update_(pair)
            if pair.intrinsic:
                self.maps.update_(pair)
        credits = pair.from_output(self._gates)
        hidden = set(range(len(pair.reports))) - pair.wiring.top
        for call, credit in self.teach(pair, hidden, self.maps, self._gates, learns).items():
            credits[call] = credit
        return list(credits)

    def teach(
        self, pair: Pair, calls: set[int], maps: Maps, gates: Gates, learns: bool
    ) -> dict[int, Tensor]:
        """Learn from the loss differences, if it learns, and return the credit of some calls."""
        error = pair.error.flatten(1)
        estimated: list[Tensor] = []
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
            if isinstance(direct, Learned) and learns:
                if not estimated:
                    top = pair.from_output(gates)
                    estimated = estimates(pair, maps.innovations(pair), top, pair.shared)
                direct.update_(estimated[call].flatten(1), error, gate.flatten(1))
            sent = direct(error, gate[0].numel())
            behind = pair.wiring.behind.get(call)
            if behind is not None and behind.population:
                pair.arrived[behind.population] = sent.view_as(gate)
            found[call] = (sent * gate.flatten(1)).view_as(gate)
        return found

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        direct = nested({name: direct.state() for name, direct in self._direct.items()})
        parts_ = {"maps": self.maps.state(), "gates": self._gates.state(), "direct": direct}
        return nested(parts_ | {"turns": self._turns.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        parts_ = unnested(state)
        self._turns.restore(parts_["turns"])
        self.maps.restore(parts_["maps"])
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
        self.maps = Maps(lambda node: Mirror(geometry(node)))
        self._gates = Gates()

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        self._gates.update_(pair)
        if pair.intrinsic:
            self.maps.update_(pair)
        top = pair.from_output(self._gates)
        shared = pair.shared if self.share else frozenset()
        found = estimates(pair, self.maps.innovations(pair), top, shared)
        own = pair.wiring.top if self.share else frozenset()
        return [top[call] if call in own else g for call, g in enumerate(found)]

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return nested({"maps": self.maps.state(), "gates": self._gates.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.maps.restore(found["maps"])
        self._gates.restore(found["gates"])


class Backward:
    """Credit goes down node by node: through a map of each node, and measured gates between.

    credit_l = gate_l ∘ (M_{l+1}ᵀ credit_{l+1}), from credit_output = e. What lies between two nodes
    is seen in the wiring. Activities that are hidden behind something opaque, or feed a node
    that has no mirror, get learned credit instead, and a warning names them.

    Args:
        new: (node) → its map; a `Mirror` learns from pairs, `KolenPollack` from what training does
            to the weights, too, `Transport` is fixed and random: feedback alignment.
        ends: whether nodes that do not follow what enters get no credit; for maps that expect them
            to.
    """

    def __init__(
        self, new: Callable[[Node], Mirror | Transport] | None = None, ends: bool = False
    ) -> None:
        self.maps = Maps(new or (lambda node: Mirror(geometry(node))))
        self._ends = Ends() if ends else None
        self._gates = Gates()
        self._straight = Straight(lambda name: Learned())
        self._turns = Turns()
        self._warned = False

    @property
    def learns(self) -> bool:
        """Whether it needs a pair in the next step."""
        return self._turns.due

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report."""
        learns = self._turns.take()
        if learns:
            self._gates.update_(pair)
            self.maps.update_(pair)
            if self._ends is not None:
                self._ends.update_(pair, self.maps)
        credits = pair.from_output(self._gates)
        top, hidden = list(credits), self._hidden(pair)
        taught = (
            self._straight.teach(pair, hidden, self.maps, self._gates, learns) if hidden else {}
        )
        for call in reversed(range(len(credits))):
            if call in taught:
                credits[call] = top[call] + taught[call]
            if self._ends is not None:
                credits[call] = self._ends(call, pair, credits[call])
            made, report = pair.wiring.inputs[call], pair.reports[call]
            if made is not None and report.node in self.maps:
                below = self.maps[report.node](credits[call], report.raw.shape)
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
        opaque = [p for p in pair.wiring.parts if isinstance(p, Opaque) or p in pair.wiring.blind]
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
        learnt = {
            "maps": self.maps.state(),
            "gates": self._gates.state(),
            "straight": self._straight.state(),
            "turns": self._turns.state(),
        }
        return nested(learnt if self._ends is None else learnt | {"ends": self._ends.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.maps.restore(found["maps"])
        self._gates.restore(found["gates"])
        self._straight.restore(found["straight"])
        self._turns.restore(found["turns"])
        if self._ends is not None:
            self._ends.restore(found["ends"])


class Frozen:
    """The output's error trains the last node, and nothing else is trained: the control."""

    def __init__(self) -> None:
        self._gates = Gates()
        self._turns = Turns()

    @property
    def learns(self) -> bool:
        """Whether it needs a pair in the next step."""
        return self._turns.due

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report; None for hidden ones."""
        if self._turns.take():
            self._gates.update_(pair)
        credits = pair.from_output(self._gates)
        return [credit if call in pair.wiring.top else None for call, credit in enumerate(credits)]

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return nested({"gates": self._gates.state(), "turns": self._turns.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self._gates.restore(found["gates"])
        self._turns.restore(found["turns"])


def estimates(
    pair: Pair,
    innovations: list[Tensor],
    known: Sequence[Tensor] = (),
    calls: Iterable[int] = (),
) -> list[Tensor]:
    """ĝ = r ε N/‖ε‖² per call, (B, *out), the mean over K; N and the norm over all calls.

    Args:
        pair: what was measured.
        innovations: ε per call, (K, B, *out).
        known: credit per call, (B, *out).
        calls: whose share is taken out, r = δL − Σ ε·known.
    """
    residual = pair.dloss
    for call in calls:
        residual = residual - (innovations[call] * known[call]).flatten(2).sum(2)
    size = sum(e[0, 0].numel() for e in innovations)
    draws = [report.draws for report in pair.reports]  # a mean over n has a variance n times less
    pairs = list(zip(innovations, draws, strict=True))
    square = torch.stack([n * e.flatten(2).square().sum(2) for e, n in pairs]).sum(0)
    factor = torch.where(square > 0, residual * size / square, 0)
    return [torch.einsum("kb,kb...->b...", n * factor / len(e), e) for e, n in pairs]


def mirrored(seed: int = 0) -> Feedback:
    """Mirrored credit: each node's map is learnt from its measured differences."""
    return Backward()


def kolen_pollack(seed: int = 0) -> Feedback:
    """Mirrored credit whose maps also take over what training does to the weights."""
    return Backward(lambda node: KolenPollack(geometry(node)), ends=True)


def learned(seed: int = 0) -> Feedback:
    """Learned credit: straight from the output's error, taught by the loss differences."""
    return Straight(lambda name: Learned())


def innovation(seed: int = 0) -> Feedback:
    """The unbiased raw estimate along what entered at each node."""
    return Innovation(share=False)


def share(seed: int = 0) -> Feedback:
    """The same, with the output's error exact and its share taken out."""
    return Innovation(share=True)


def dfa(seed: int = 0) -> Feedback:
    """Direct feedback alignment: fixed random maps from the output's error. A control."""
    return Straight(lambda name: Fixed(name, seed))


def fa(seed: int = 0) -> Feedback:
    """Feedback alignment: fixed random maps from node to node. A control."""
    return Backward(lambda node: Transport(geometry(node), node.name, seed))


def frozen(seed: int = 0) -> Feedback:
    """Hidden nodes stay as they are. A control."""
    return Frozen()


FEEDBACKS: dict[str, Callable[[int], Feedback]] = {
    "mirrored": mirrored,
    "kolen-pollack": kolen_pollack,
    "learned": learned,
    "innovation": innovation,
    "share": share,
    "dfa": dfa,
    "fa": fa,
    "frozen": frozen,
}
"""Makers by name, each given the seed of what it draws."""
