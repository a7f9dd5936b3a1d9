"""What a pair of passes showed, by call and by expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.errors import SystemRefused
from noisynets.feedback.watch import Wiring, max_pool_adjoint, seen_in
from noisynets.feedback.wiring import (
    Activity,
    Expression,
    MaxPool,
    Moved,
    Opaque,
    Sum,
    Unit,
    activities,
    parts,
)
from noisynets.types import Report

Gate = Callable[[Unit, "Pair"], Tensor]


@dataclass(frozen=True)
class Pair:
    """What a pair of passes showed.

    Attributes:
        reports: of all calls, with activities and shifts.
        dloss: (K, B), already divided by the batch.
        error: ∂(mean loss)/∂output in the reference pass, (B, ...).
        wiring: what lies between the calls.
        top: calls whose activities make up the output without passing another node.
        behind: the unit right behind a call's activity, by call.
    """

    reports: Sequence[Report]
    dloss: Tensor
    error: Tensor
    wiring: Wiring
    top: frozenset[int] = field(init=False)
    behind: dict[int, Unit] = field(init=False)
    _responses: dict[Unit, tuple[int, list[Moved]]] = field(init=False)

    def __post_init__(self) -> None:
        hidden = [p.operation for p in parts(self.wiring.output) if isinstance(p, Opaque)]
        if self.wiring.output is None or hidden:
            what = f" through {hidden[0]!r}" if hidden else ""
            raise SystemRefused(
                f"the output is not made of activities alone{what}: feedback starts from the "
                "error at the output, so leave such a step to the loss"
            )
        object.__setattr__(self, "top", frozenset(activities(self.wiring.output)))
        everywhere = [p for m in (*self.wiring.inputs, self.wiring.output) for p in parts(m)]
        units = [p for p in everywhere if isinstance(p, Unit) and isinstance(p.of, Activity)]
        behind = {u.of.call: u for u in units if isinstance(u.of, Activity)}
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
    def intrinsic(self) -> bool:
        """Whether the noise is the system's own, so that nobody knows what entered where."""
        return any(report.xi is None for report in self.reports)

    def units(self) -> dict[str, Unit]:
        """Return one unit of every kind."""
        every = [p for made in (*self.wiring.inputs, self.wiring.output) for p in parts(made)]
        return {kind(unit, self.reports): unit for unit in every if isinstance(unit, Unit)}

    def activity(self, call: int) -> Tensor:
        """Activity of a call in the reference pass, (B, *out)."""
        a = self.reports[call].a
        assert a is not None, "reports carry states for feedback"
        return a

    def given(self, unit: Unit | MaxPool) -> tuple[Tensor, Tensor]:
        """What went in: (B, ...), and its differences (K, B, ...)."""
        if isinstance(unit.of, Activity):
            return self.activity(unit.of.call), self.reports[unit.of.call].delta
        return self._tapped(unit.before)

    def response(self, unit: Unit) -> Tensor:
        """Differences of what came out, (K, B, ...)."""
        if unit not in self._responses:
            return self._tapped(unit.after)[1]
        call, path = self._responses[unit]
        shift = self.reports[call].shift
        assert shift is not None
        back = shift.flatten(0, 1)
        for moved in path:
            back = moved.adjoint(back)
        return back.unflatten(0, shift.shape[:2])

    def from_output(self, gate: Gate | None) -> list[Tensor]:
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
    made: Expression | None, credit: Tensor, credits: list[Tensor], pair: Pair, gate: Gate | None
) -> None:
    """Send the credit (B, ...) of an expression to the activities that it was made of.

    Args:
        made: the expression; what is opaque keeps its credit.
        credit: of its value.
        credits: of all calls, added to.
        pair: gives values.
        gate: (unit, pair) → its gain; None: there are none on the way.
    """
    if made is None or isinstance(made, Opaque):
        return
    if isinstance(made, Activity):
        credits[made.call] = credits[made.call] + credit.view_as(credits[made.call])
    elif isinstance(made, Sum):
        for term, factor in made.terms:
            deliver(term, factor * credit, credits, pair, gate)
    elif isinstance(made, Moved):
        deliver(made.of, made.adjoint(credit), credits, pair, gate)
    elif isinstance(made, MaxPool):
        below = max_pool_adjoint(credit, pair.given(made)[0], made.settings)
        deliver(made.of, below, credits, pair, gate)
    else:
        gain = 1 if gate is None else gate(made, pair)
        deliver(made.of, credit * gain, credits, pair, gate)


def kind(expression: Expression, reports: Sequence[Report]) -> str:
    """Name what an expression is made of, the same at every time step."""
    if isinstance(expression, Activity):
        return reports[expression.call].node.name
    if isinstance(expression, Sum):
        return "+".join(kind(term, reports) for term, _ in expression.terms)
    if isinstance(expression, Opaque):
        return expression.operation
    return f"{type(expression).__name__}({kind(expression.of, reports)})"
