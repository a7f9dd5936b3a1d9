"""What a pair of passes showed, by call and by expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.core.adjoints import max_pool_adjoint
from noisynets.core.errors import SystemRefused
from noisynets.core.graph import (
    Activity,
    Expression,
    MaxPool,
    Moved,
    Sum,
    Unit,
    Wiring,
    inner,
    parts,
)
from noisynets.core.types import Report, Response

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
        arrived: credit of the mean spikes of populations, (B, *out), by their paths, as far as it
            has been sent.
    """

    reports: Sequence[Report]
    dloss: Tensor
    error: Tensor
    wiring: Wiring
    responses: dict[str, Response] = field(default_factory=dict)
    exact: bool = True
    arrived: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wiring = self.wiring
        if wiring.output is None or wiring.hidden:
            what = f" through {wiring.hidden[0]!r}" if wiring.hidden else ""
            advice = (
                "over a trial, make Spiking(network, steps, readout) the whole system, and call "
                "each layer once per step"
                if wiring.on_average
                else "feedback starts from the error at the output: leave such a step to the loss"
            )
            raise SystemRefused(f"the output is not made of activities alone{what}: {advice}")

    @property
    def shared(self) -> frozenset[int]:
        """Calls whose share of δL is known beforehand: those at the top, if the error is exact."""
        return self.wiring.top if self.exact else frozenset()

    @property
    def intrinsic(self) -> bool:
        """Whether the noise is the system's own, so that nobody knows what entered where."""
        return any(report.xi is None for report in self.reports)

    def units(self) -> dict[str, list[Unit]]:
        """Return the units, by kind."""
        found: dict[str, list[Unit]] = {}
        for part in self.wiring.parts:
            if isinstance(part, Unit) and part not in self.wiring.blind:
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
        report = self._seen(unit)
        if report is None or report.shift is None:
            return self._tapped(unit.after)[1]
        shift = report.shift
        return self._undone(unit, shift.flatten(0, 1)).unflatten(0, shift.shape[:2])

    def result(self, unit: Unit) -> Tensor:
        """What came out in the reference pass, (B, ...)."""
        if unit.population:
            return self.responses[unit.population].spikes
        report = self._seen(unit)
        return self._tapped(unit.after)[0] if report is None else self._undone(unit, report.raw)

    def _seen(self, unit: Unit) -> Report | None:
        """Return the report whose input is what came out of a unit, if there is one."""
        call, _ = self.wiring.seen.get(unit, (None, ()))
        return None if call is None or self.reports[call].shift is None else self.reports[call]

    def _undone(self, unit: Unit, moved: Tensor) -> Tensor:
        """Move a node's input back to how it left the unit, (rows, ...)."""
        for step in self.wiring.seen[unit][1]:
            moved = step.adjoint(moved)
        return moved

    def from_output(self, gate: Gate) -> list[Tensor]:
        """Credit of every call from the error alone: zero but for those at the top."""
        credits = [torch.zeros_like(self.activity(call)) for call in range(len(self.reports))]
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
        if part not in found or part in pair.wiring.blind:
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
