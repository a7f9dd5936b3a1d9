"""Expressions: how the input of a node, or the output, is computed from activities.

Credit flows from a node's input back to the activities that it was computed from. The tracer
records every operation that PyTorch carries out in one pass (see `tracer`). No unit is
differentiated, or recognised by its type:

- an element-wise operation is a *unit*; its gain is measured (see `rules.credit.gate`);
- an operation that moves, scales or averages numbers is a `LinearOp` with an exact adjoint;
- any other deterministic operation is *digital*: its adjoint is its own vector-Jacobian product at
  the measured values;
- what is random, has no derivative or is declared physical is *opaque*: no credit passes it.

Expressions share their parts, as the steps of a trial do. `parts` visits each part once, and
expressions are compared by identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Activity:
    """The activity of a node in one call.

    Attributes:
        call: index of the call in the record.
    """

    call: int


@dataclass(frozen=True, eq=False)
class Unit:
    """An element-wise operation.

    Attributes:
        of: its argument.
        before: key of the stored value of the argument (see `Record.values`).
        after: key of the stored value of the result.
        operation: names of the operations; units of different names have different gates.
        constants: the numbers in these operations, by which units of one name may differ.
        population: path of the population that this unit is, on average over a trial; '' if it
            is none.
    """

    of: Expression
    before: int
    after: int
    operation: str
    constants: str = ""
    population: str = ""


@dataclass(frozen=True, eq=False)
class LinearOp:
    """A linear operation that moves, scales, repeats or averages numbers within each sample.

    Attributes:
        of: its argument.
        adjoint: credit of its output (B, ...) → credit of its input (B, ...).
        operation: its name and settings.
        invertible: the adjoint also maps the output back to the input.
    """

    of: Expression
    adjoint: Callable[[Tensor], Tensor]
    operation: str
    invertible: bool = False


@dataclass(frozen=True, eq=False)
class Sum:
    """A weighted sum of expressions.

    Attributes:
        terms: expressions of equal shapes, with their factors.
        constant: a number that is added, in words.
    """

    terms: tuple[tuple[Expression, float], ...]
    constant: str = ""


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Maximum pooling: credit goes to the position of the maximum.

    Attributes:
        of: its argument.
        before: key of the stored value of the argument.
        settings: of `max_pool`, without the input.
    """

    of: Expression
    before: int
    settings: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Digital:
    """One result of a deterministic operation, whose adjoint is its vector-Jacobian product.

    Attributes:
        of: its arguments that are made of activities or parameters, in order.
        operation: its name.
        key: of the values on which it was carried out (see `Record.applied`).
        result: index among its results.
    """

    of: tuple[Expression, ...]
    operation: str
    key: int
    result: int = 0


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained parameter that belongs to no node, and is used between the nodes.

    Attributes:
        parameter: the parameter.
        name: its path.
    """

    parameter: nn.Parameter
    name: str


@dataclass(frozen=True, eq=False)
class Opaque:
    """Any other operation on activities.

    Attributes:
        of: its arguments.
        operation: its name.
    """

    of: tuple[Expression, ...]
    operation: str


Expression = Activity | Unit | LinearOp | Sum | MaxPool | Digital | Trained | Opaque


def inner(expression: Expression) -> tuple[Expression, ...]:
    """Return the direct arguments of an expression."""
    if isinstance(expression, Activity | Trained):
        return ()
    if isinstance(expression, Sum):
        return tuple(term for term, _ in expression.terms)
    return expression.of if isinstance(expression, Opaque | Digital) else (expression.of,)


def parts(
    *expressions: Expression | None,
    arguments: Callable[[Expression], tuple[Expression, ...]] = inner,
) -> list[Expression]:
    """Return all parts of expressions, each once, arguments before results."""
    found: dict[Expression, None] = {}
    left = [(e, False) for e in expressions if e is not None]
    while left:
        expression, ready = left.pop()
        if expression in found:
            continue
        if ready:
            found[expression] = None
            continue
        left.append((expression, True))
        left += [(part, False) for part in arguments(expression) if part not in found]
    return list(found)


def activities(*expressions: Expression | None) -> set[int]:
    """Return the calls whose activities occur in expressions, also within opaque parts."""
    return {part.call for part in parts(*expressions) if isinstance(part, Activity)}


def summands(expression: Expression) -> list[Expression]:
    """Return the terms with factor 1 of a sum; the expression itself if it is no sum."""
    if not isinstance(expression, Sum):
        return [expression]
    return [t for term, factor in expression.terms if factor == 1 for t in summands(term)]


def base(expression: Expression) -> Expression:
    """Return the expression of which this one is an element-wise function.

    The search ends at a population: it has a state of its own.
    """
    while (isinstance(expression, Unit) and not expression.population) or (
        isinstance(expression, Sum) and len(expression.terms) == 1
    ):
        expression = inner(expression)[0]
    return expression


def constants(expression: Expression) -> str:
    """Return the numbers in the element-wise operations that lead to an expression."""
    if isinstance(expression, Unit):
        return expression.constants
    if isinstance(expression, Sum) and len(expression.terms) == 1:
        ((term, factor),) = expression.terms
        scaled = "" if factor == 1 else f"*{factor!r}"
        return constants(term) + scaled + expression.constant
    return ""


def unit_before(made: Expression | None) -> Unit | None:
    """Return the unit behind a node whose output, reshaped at most, is this expression."""
    while isinstance(made, LinearOp) and made.invertible:
        made = made.of
    return made if isinstance(made, Unit) and isinstance(made.of, Activity) else None


@dataclass(frozen=True, eq=False)
class Graph:
    """How the input of each call, and the system's outputs, are computed from activities.

    A graph holds no values of a batch. For a system that always calls its nodes in the same way
    it is traced once.

    Attributes:
        names: of the nodes, one per call.
        inputs: one expression per call; None where no activity enters.
        outputs: of the system, one per tensor; None where no activity enters, or no error is sent.
        over_trial: the record holds means over a trial. Stored values are then those of the
            first step, and nothing is measured with them.
        after: what was made after the trial, and is measured.
        physical: words that named an operation declared physical.
    """

    names: tuple[str, ...]
    inputs: tuple[Expression | None, ...]
    outputs: tuple[Expression | None, ...]
    over_trial: bool = False
    after: frozenset[Expression] = frozenset()
    physical: frozenset[str] = frozenset()

    def same(self, other: Graph) -> bool:
        """Return True if another graph is made of the same expressions."""
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self))

    @cached_property
    def parts(self) -> list[Expression]:
        """All expressions, each once, arguments before results."""
        return parts(*self.inputs, *self.outputs)

    @cached_property
    def order(self) -> tuple[Expression, ...]:
        """All expressions, results before arguments, activities before their nodes' inputs."""

        def below(expression: Expression) -> tuple[Expression, ...]:
            if isinstance(expression, Activity):
                made = self.inputs[expression.call]
                return () if made is None else (made,)
            return inner(expression)

        return tuple(reversed(parts(*self.inputs, *self.outputs, arguments=below)))

    @cached_property
    def used(self) -> frozenset[int]:
        """Calls whose activities enter a node or an output."""
        return frozenset(activities(*self.inputs, *self.outputs))

    @cached_property
    def unmeasured(self) -> frozenset[Expression]:
        """Parts of which nothing was measured; no credit passes them."""
        return frozenset(self.unrecorded - self.after if self.over_trial else ())

    @cached_property
    def hidden(self) -> list[str]:
        """Names of the operations before the outputs that no credit passes."""
        return [
            getattr(part, "operation", "a pooling")
            for part in parts(*self.outputs)
            if isinstance(part, Opaque) or part in self.unmeasured
        ]

    @cached_property
    def top(self) -> frozenset[int]:
        """Calls whose activities reach an output without passing another node."""
        return frozenset(activities(*self.outputs))

    @cached_property
    def behind(self) -> dict[int, Unit]:
        """The measured unit right behind a call's activity, or a sum with it, if it is alone."""
        found: dict[int, list[Unit]] = {}
        for part in self.parts:
            for term in summands(part.of) if isinstance(part, Unit) else ():
                if isinstance(part, Unit) and isinstance(term, Activity):
                    found.setdefault(term.call, []).append(part)
        return {c: u[0] for c, u in found.items() if len(u) == 1 and u[0] not in self.unmeasured}

    @cached_property
    def readers(self) -> dict[Unit, tuple[int, list[LinearOp]]]:
        """Units whose outputs enter a node: its call, and the operations in between."""
        found: dict[Unit, tuple[int, list[LinearOp]]] = {}
        for call, made in enumerate(self.inputs):
            unit, path = unit_before(made), []
            while isinstance(made, LinearOp):
                path.append(made)
                made = made.of
            if unit is not None:
                found[unit] = call, path
        return found

    @cached_property
    def unrecorded(self) -> set[Expression]:
        """Parts that need values which are in no call's record."""
        seen = {part for made in self.inputs if (part := unit_before(made)) is not None}
        return {
            part
            for part in self.parts
            if (isinstance(part, Unit) and part not in seen and not part.population)
            or (isinstance(part, MaxPool) and not _pools_spikes(part))
            or isinstance(part, Digital)
        }

    @property
    def recorded(self) -> bool:
        """True if no intermediate values need to be stored for credit to pass."""
        return not self.unrecorded

    @cached_property
    def kinds(self) -> dict[Unit, str]:
        """The kind of every measured unit: what it is and acts on, the same at every time step.

        Units of one activity that differ in a constant alone have it in their names.
        """
        measured = [p for p in self.parts if isinstance(p, Unit) and p not in self.unmeasured]
        found = {part: f"{part.operation}({self._described(part.of)})" for part in measured}
        alike: dict[str, set[str]] = {}
        for part, kind in found.items():
            alike.setdefault(kind, set()).add(part.constants)
        return {
            part: f"{kind}[{part.constants}]" if len(alike[kind]) > 1 and part.constants else kind
            for part, kind in found.items()
        }

    @cached_property
    def units(self) -> dict[str, list[Unit]]:
        """The measured units by kind."""
        found: dict[str, list[Unit]] = {}
        for unit, kind in self.kinds.items():
            found.setdefault(kind, []).append(unit)
        return found

    @cached_property
    def fed(self) -> dict[int, str]:
        """The population that a call's activity enters directly, by call."""
        return {
            term.call: part.population
            for part in self.parts
            if isinstance(part, Unit) and part.population
            for term in summands(part.of)
            if isinstance(term, Activity)
        }

    def _described(self, expression: Expression, depth: int = 4) -> str:
        """Describe an expression down to some depth, in the same words at every time step."""
        if isinstance(expression, Activity):
            return self.names[expression.call]
        terms = [self._described(p, depth - 1) for p in inner(expression)] if depth else ["…"]
        what = getattr(expression, "operation", type(expression).__name__)
        return f"{what}({'+'.join(terms)})"


def _pools_spikes(pool: MaxPool) -> bool:
    return isinstance(pool.of, Unit) and bool(pool.of.population)
