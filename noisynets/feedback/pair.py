"""What a pair of passes showed, by call and by expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.errors import SystemRefused
from noisynets.feedback.adjoints import max_pool_adjoint
from noisynets.feedback.wiring import (
    Activity,
    Expression,
    MaxPool,
    Moved,
    Opaque,
    Sum,
    Unit,
    Wiring,
    activities,
    inner,
    parts,
    seen_in,
    summed,
)
from noisynets.types import Report, Response

Gate = Callable[[Unit, "Pair"], Tensor]


@dataclass(frozen=True)
class Pair:
    """What a pair of passes showed.

    Attributes:
        reports: of all calls, with activities and shifts.
        dloss: (K, B), already divided by the batch.
        error: ∂(mean loss)/∂output in the reference pass, (B, ...).
        wiring: what lies between the calls.
        responses: of populations, by their paths.
        exact: whether the error is the loss's derivative; if not, it was measured from this very
            pair, and says nothing about δL that δL does not say itself.
        top: calls whose activities make up the output without passing another node.
        behind: the unit right behind a call's activity, or a sum with it, by call, where it is
            the only one.
        parts: of all expressions, each once.
        blind: units and poolings that nothing was measured of; no credit passes them.
        arrived: credit of the mean spikes of populations, (B, *out), by their paths, as far as it
            has been sent.
    """

    reports: Sequence[Report]
    dloss: Tensor
    error: Tensor
    wiring: Wiring
    responses: dict[str, Response] = field(default_factory=dict)
    exact: bool = True
    top: frozenset[int] = field(init=False)
    behind: dict[int, Unit] = field(init=False)
    parts: list[Expression] = field(init=False)
    blind: frozenset[Expression] = field(init=False)
    arrived: dict[str, Tensor] = field(default_factory=dict)
    _responses: dict[Unit, tuple[int, list[Moved]]] = field(init=False)

    def __post_init__(self) -> None:
        everywhere = parts(*self.wiring.inputs, self.wiring.output)
        object.__setattr__(self, "parts", everywhere)
        unseen = self.wiring.unreported if self.wiring.on_average else ()
        object.__setattr__(self, "blind", frozenset(unseen))
        hidden = [
            getattr(p, "operation", "a pooling")
            for p in parts(self.wiring.output)
            if isinstance(p, Opaque) or p in self.blind
        ]
        if self.wiring.output is None or hidden:
            what = f" through {hidden[0]!r}" if hidden else ""
            advice = (
                "over a trial, make Spiking(network, steps, readout) the whole system, and call "
                "each layer once per step"
                if self.wiring.on_average
                else "feedback starts from the error at the output: leave such a step to the loss"
            )
            raise SystemRefused(f"the output is not made of activities alone{what}: {advice}")
        object.__setattr__(self, "top", frozenset(activities(self.wiring.output)))
        found: dict[int, list[Unit]] = {}
        for part in everywhere:
            for term in summed(part.of) if isinstance(part, Unit) else ():
                if isinstance(part, Unit) and isinstance(term, Activity):
                    found.setdefault(term.call, []).append(part)
        behind = {call: units[0] for call, units in found.items() if len(units) == 1}
        object.__setattr__(self, "behind", behind)
        responses: dict[Unit, tuple[int, list[Moved]]] = {}
        for call, made in enumerate(self.wiring.inputs):
            unit, path = seen_in(made), []
            while isinstance(made, Moved):
                path.append(made)
                made = made.of
            if unit is not None and self.reports[call].shift is not None:
                responses[unit] = (call, path)
        object.__setattr__(self, "_responses", responses)

    @property
    def shared(self) -> frozenset[int]:
        """Calls whose share of δL is known beforehand: those at the top, if the error is exact."""
        return self.top if self.exact else frozenset()

    @property
    def intrinsic(self) -> bool:
        """Whether the noise is the system's own, so that nobody knows what entered where."""
        return any(report.xi is None for report in self.reports)

    def units(self) -> dict[str, list[Unit]]:
        """Return the units, by kind."""
        found: dict[str, list[Unit]] = {}
        for part in self.parts:
            if isinstance(part, Unit) and part not in self.blind:
                found.setdefault(self.kind(part), []).append(part)
        return found

    def kind(self, unit: Unit) -> str:
        """Name what a unit is and acts on, the same at every time step."""
        return f"{unit.operation}({_made_of(unit.of, self.reports)})"

    def activity(self, call: int) -> Tensor:
        """Activity of a call in the reference pass, (B, *out)."""
        a = self.reports[call].a
        assert a is not None, "reports carry states for feedback"
        return a

    def given(self, unit: Unit | MaxPool) -> tuple[Tensor, Tensor]:
        """What went in: (B, ...), and its differences (K, B, ...)."""
        if isinstance(unit, Unit) and unit.population:
            response = self.responses[unit.population]
            return response.current, response.shift
        if isinstance(unit.of, Unit) and unit.of.population:
            response = self.responses[unit.of.population]
            return response.spikes, response.change
        if isinstance(unit.of, Activity):
            return self.activity(unit.of.call), self.reports[unit.of.call].delta
        return self._tapped(unit.before)

    def response(self, unit: Unit) -> Tensor:
        """Differences of what came out, (K, B, ...)."""
        if unit.population:
            return self.responses[unit.population].change
        if unit not in self._responses:
            return self._tapped(unit.after)[1]
        call, path = self._responses[unit]
        shift = self.reports[call].shift
        assert shift is not None
        back = shift.flatten(0, 1)
        for moved in path:
            back = moved.adjoint(back)
        return back.unflatten(0, shift.shape[:2])

    def from_output(self, gate: Gate) -> list[Tensor]:
        """Credit of every call from the error alone: zero but for those at the top."""
        credits = [torch.zeros_like(report.delta[0]) for report in self.reports]
        deliver(self.wiring.output, self.error, credits, self, gate)
        return credits

    def _tapped(self, number: int) -> tuple[Tensor, Tensor]:
        resamples, batch = self.dloss.shape
        passes = self.wiring.values[number].unflatten(0, (1 + resamples, batch))
        passes = passes.to(self.error.dtype)
        return passes[0], passes[1:] - passes[0]


def deliver(
    made: Expression | None, credit: Tensor, credits: list[Tensor], pair: Pair, gate: Gate
) -> None:
    """Send the credit (B, ...) of an expression to the activities that it was made of.

    Args:
        made: the expression; what is opaque keeps its credit.
        credit: of its value.
        credits: of all calls, added to.
        pair: gives values.
        gate: (unit, pair) → its gain.
    """
    found: dict[Expression, Tensor] = {} if made is None else {made: credit}

    def send(to: Expression, c: Tensor) -> None:
        found[to] = found[to] + c if to in found else c

    for part in reversed(parts(made)):  # what an expression goes into comes before it
        if part not in found or part in pair.blind:
            continue
        c = found.pop(part)
        if isinstance(part, Activity):
            old = credits[part.call]
            credits[part.call] = old + c.to(old.dtype).view_as(old)
        elif isinstance(part, Sum):
            for term, factor in part.terms:
                send(term, factor * c)
        elif isinstance(part, Moved):
            send(part.of, part.adjoint(c))
        elif isinstance(part, MaxPool):
            send(part.of, max_pool_adjoint(c, pair.given(part)[0], part.settings))
        elif isinstance(part, Unit):
            if part.population:
                before = pair.arrived.get(part.population)
                pair.arrived[part.population] = c if before is None else before + c
            send(part.of, c * gate(part, pair))


def _made_of(expression: Expression, reports: Sequence[Report], depth: int = 4) -> str:
    """Name what an expression is made of, down to some depth, the same at every time step."""
    if isinstance(expression, Activity):
        return reports[expression.call].node.name
    terms = [_made_of(part, reports, depth - 1) for part in inner(expression)] if depth else ["…"]
    what = getattr(expression, "operation", type(expression).__name__)
    return f"{what}({'+'.join(terms)})"
