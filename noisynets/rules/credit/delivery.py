"""Delivery: sending credit from the outputs down, through the nodes and what lies between them.

Between nodes credit passes linear operations by their exact adjoints, digital ones by their
vector-Jacobian products, maximum poolings by the position of the maximum, and units by measured
gates. Nothing is written into the record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from noisynets.core.graph import (
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
    whole,
)
from noisynets.core.record import NodeRecord, Record
from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.state import nested, unnested


@dataclass
class Delivered:
    """Credit that has arrived elsewhere than at nodes.

    Attributes:
        populations: credit of the mean spikes of populations, (B, *out), by path.
        parameters: gradients of trained parameters between the nodes, by path.
    """

    populations: dict[str, Tensor] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)


class NamedGates:
    """Gates by name, and how often they were updated."""

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self.updates = 0

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        found = nested({name: gate.state() for name, gate in self.gates.items()})
        return found | {"updates": torch.tensor(self.updates)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.updates = int(state["updates"])
        self.gates.clear()
        for name, part in unnested({k: v for k, v in state.items() if k != "updates"}).items():
            self.gates[name] = Gate()
            self.gates[name].restore(part)


class Gates(NamedGates):
    """One measured gate for every kind of unit in a system."""

    def update_(self, record: Record) -> None:
        """Update the gate of every kind of unit; units of one kind take turns."""
        for name, units in graph_of(record).units.items():
            unit = units[self.updates % len(units)]
            a, shift = given(record, unit)
            gate = self.gates.get(name)
            if gate is None:
                gate = self.gates[name] = Gate()
            gate.update_(a, shift[0], response(record, unit)[0])
        self.updates += 1

    def __call__(self, unit: Unit, record: Record) -> Tensor:
        """Return the gain of a unit at each of its inputs in the reference pass, (B, ...)."""
        return self.gates[graph_of(record).kinds[unit]](given(record, unit)[0])

    def of_activity(self, call: int, record: Record) -> Tensor:
        """Return the gain of the unit right behind a call's activity, (B, *out); 1 without one."""
        behind = graph_of(record).behind.get(call)
        return torch.ones_like(activity(record, call)) if behind is None else self(behind, record)


Through = Callable[[int, Tensor], Tensor | None]
"""(call, credit of its activity (B, *out)) → credit of its input (B, *in); None: it ends there."""


def send_down(
    record: Record, gates: Gates, through: Through, others: Collection[int] = ()
) -> Delivered:
    """Send the errors at the outputs down, and through the nodes, in one sweep.

    Every operation is passed once, when the credit of all that was made of its result is known.

    Args:
        record: of the pass.
        gates: gains of the units.
        through: is called once for every call at which credit arrives, or that is among `others`.
        others: calls whose credit comes from elsewhere.

    Credit of opaque parts is dropped.
    """
    graph, delivered = graph_of(record), Delivered()
    assert record.error is not None, "feedback needs the error"
    found: dict[Expression, Tensor] = {}

    def send(to: Expression, c: Tensor) -> None:
        c = _placed(to, c, record)
        found[to] = found[to] + c if to in found else c

    def enter(call: int, c: Tensor) -> None:
        a = activity(record, call)
        below, made = through(call, c.to(a.dtype).view_as(a)), graph.inputs[call]
        if below is not None and made is not None:
            send(made, below)

    for made, error in zip(graph.outputs, record.error, strict=True):
        if made is not None and error is not None:
            send(made, error)
    for call in set(others) - graph.used:
        enter(call, torch.zeros_like(activity(record, call)))
    for part in graph.order:
        c = found.pop(part, None)
        if isinstance(part, Activity):
            if c is not None or part.call in others:
                a = activity(record, part.call)
                enter(part.call, torch.zeros_like(a) if c is None else c)
        elif c is not None and part not in graph.unmeasured:
            _pass(part, c, record, gates, delivered, send)
    return delivered


def _pass(
    part: Expression,
    c: Tensor,
    record: Record,
    gates: Gates,
    delivered: Delivered,
    send: Callable[[Expression, Tensor], None],
) -> None:
    """Send the credit of an expression to its arguments."""
    if isinstance(part, Trained):
        delivered.parameters[part.name] = c
    elif isinstance(part, Digital):
        below = record.applied[part.key].adjoint(part.result, c)
        for term, share in zip(part.of, below, strict=True):
            send(term, share)
    elif isinstance(part, Sum):
        for term, factor in part.terms:
            send(term, factor * c)
    elif isinstance(part, LinearOp):
        send(part.of, part.adjoint(c))
    elif isinstance(part, MaxPool):
        send(part.of, max_pool_adjoint(c, given(record, part)[0], part))
    elif isinstance(part, Unit):
        if part.population:
            delivered.populations[part.population] = c
        send(part.of, c * gates(part, record))


def _placed(to: Expression, c: Tensor, record: Record) -> Tensor:
    """Return credit for the rows of all passes if `to` is digital, else of the reference pass."""
    if isinstance(to, Digital):
        return whole(c, record.applied[to.key].shapes[to.result])
    if isinstance(to, Trained | Opaque):
        return c
    passes = 1 + len(record.dloss)
    rows = len(c) // passes if len(c) == passes * record.dloss.shape[1] else len(c)
    return c[:rows]


def from_output(record: Record, gates: Gates) -> tuple[list[Tensor], Delivered]:
    """Return the credit of every call from the errors at the outputs alone, and what arrived."""
    credits = [torch.zeros_like(activity(record, call)) for call in range(len(record.calls))]

    def end(call: int, credit: Tensor) -> None:
        credits[call] = credit

    return credits, send_down(record, gates, end)


def max_pool_adjoint(credit: Tensor, before: Tensor, pool: MaxPool) -> Tensor:
    """Give each window's credit to the position of its maximum.

    Args:
        credit: of the pooled values, (B, C, H', W').
        before: the values that were pooled, (B, C, H, W).
        pool: gives kernel size, stride, padding and dilation.
    """
    _, where = F.max_pool2d(before, *pool.settings, return_indices=True)
    flat = torch.zeros_like(before).flatten(2)
    return flat.scatter_add_(2, where.flatten(2), credit.flatten(2)).view_as(before)


def graph_of(record: Record) -> Graph:
    """Return the graph of a record that has one."""
    assert record.graph is not None, "feedback needs the graph"
    return record.graph


def activity(record: Record, call: int) -> Tensor:
    """Return the activity of a call in the reference pass, (B, *out)."""
    a = record.calls[call].a
    assert a is not None, "feedback needs the states"
    return a


def is_intrinsic(record: Record) -> bool:
    """Return True if noise entered that was not injected, so that its values are unknown."""
    return any(call.xi is None for call in record.calls)


def known_calls(record: Record) -> frozenset[int]:
    """Return the calls whose share of δL is known before: those at the top of an exact error."""
    return graph_of(record).top if record.exact else frozenset()


def given(record: Record, unit: Unit | MaxPool) -> tuple[Tensor, Tensor]:
    """Return the input of a unit or pooling, (B, ...), and its differences (K, B, ...)."""
    if isinstance(unit, Unit) and unit.population:
        found = record.populations[unit.population]
        return found.current, found.shift
    if isinstance(unit.of, Unit) and unit.of.population:
        found = record.populations[unit.of.population]
        return found.spikes, found.change
    if isinstance(unit.of, Activity):
        return activity(record, unit.of.call), record.calls[unit.of.call].delta
    return _stored(record, unit.before)


def response(record: Record, unit: Unit) -> Tensor:
    """Return the differences of the output of a unit, (K, B, ...)."""
    if unit.population:
        return record.populations[unit.population].change
    reader = _reader(record, unit)
    if reader is None or reader.shift is None:
        return _stored(record, unit.after)[1]
    shift = reader.shift
    return _undone(record, unit, shift.flatten(0, 1)).unflatten(0, shift.shape[:2])


def result(record: Record, unit: Unit) -> Tensor:
    """Return the output of a unit in the reference pass, (B, ...)."""
    if unit.population:
        return record.populations[unit.population].spikes
    reader = _reader(record, unit)
    if reader is None:
        return _stored(record, unit.after)[0]
    return _undone(record, unit, reader.raw)


def _reader(record: Record, unit: Unit) -> NodeRecord | None:
    """Return the record of the call whose input is the output of a unit, if there is one."""
    call, _ = graph_of(record).readers.get(unit, (None, ()))
    return None if call is None or record.calls[call].shift is None else record.calls[call]


def _undone(record: Record, unit: Unit, moved: Tensor) -> Tensor:
    """Map a node's input back to the output of the unit before it, (rows, ...)."""
    for step in graph_of(record).readers[unit][1]:
        moved = step.adjoint(moved)
    return moved


def _stored(record: Record, key: int) -> tuple[Tensor, Tensor]:
    resamples, batch = record.dloss.shape
    passes = record.values[key].unflatten(0, (1 + resamples, batch))
    passes = passes.to(record.dloss.dtype)
    return passes[0], passes[1:] - passes[0]


def estimates(
    record: Record,
    innovations: list[Tensor],
    known: Sequence[Tensor] = (),
    calls: Sequence[int] | frozenset[int] = (),
) -> list[Tensor]:
    """Return ĝ = r ε N/‖ε‖² per call, (B, *out), the mean over K; N and the norm over all calls.

    Args:
        record: of the pass.
        innovations: ε per call, (K, B, *out).
        known: credit per call, (B, *out).
        calls: whose share is subtracted, r = δL − Σ ε·known.
    """
    residual = record.dloss
    for call in calls:
        residual = residual - (innovations[call] * known[call]).flatten(2).sum(2)
    size = sum(e[0, 0].numel() for e in innovations)
    draws = [call.draws for call in record.calls]  # a mean of n draws has a variance n times less
    pairs = list(zip(innovations, draws, strict=True))
    square = torch.stack([n * e.flatten(2).square().sum(2) for e, n in pairs]).sum(0)
    factor = torch.where(square > 0, residual * size / square, 0)
    return [torch.einsum("kb,kb...->b...", n * factor / len(e), e) for e, n in pairs]
