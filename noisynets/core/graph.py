"""What lies between the nodes: units, moves, sums, poolings, time.

Credit travels from a node's input down to the activities it was made of. How these were combined
is read off the operations that PyTorch carries out in a pass (see `Watch`), one after another, as
a profiler would: no operation is asked for its derivative, and none is known to be a certain unit.
What acts element by element is a *unit*, whatever it does; its gain is measured (see `Gate`). What
only moves, scales or adds numbers has an exact adjoint. Anything else is *opaque*.

The expressions share their parts, as steps in time do: walk them with `parts`, which meets each
once, and compare them by identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Activity:
    """The activity of a node in one of its calls.

    Attributes:
        call: number of the report.
    """

    call: int


@dataclass(frozen=True, eq=False)
class Unit:
    """Something that acts element by element.

    Attributes:
        of: what it acts on.
        before: number of the kept value that goes in (see `Wiring.values`).
        after: number of the kept value that comes out.
        operation: names of what it does, for telling kinds of units apart.
        population: path of the population that it is, on average over a trial; '' for others.
    """

    of: Expression
    before: int
    after: int
    operation: str
    population: str = ""


@dataclass(frozen=True, eq=False)
class Moved:
    """A linear operation that moves, scales, repeats or averages numbers within each sample.

    Attributes:
        of: what it acts on.
        adjoint: credit of its output (B, ...) → credit of its input (B, ...).
        operation: its name and settings.
        undoes: whether the adjoint also turns the output back into the input.
    """

    of: Expression
    adjoint: Callable[[Tensor], Tensor]
    operation: str
    undoes: bool = False


@dataclass(frozen=True, eq=False)
class Sum:
    """A weighted sum, term by term.

    Attributes:
        terms: of equal shapes, with their factors.
    """

    terms: tuple[tuple[Expression, float], ...]


@dataclass(frozen=True, eq=False)
class MaxPool:
    """The largest of a window: credit goes to where it was.

    Attributes:
        of: what it acts on.
        before: number of the kept value that goes in.
        settings: of `max_pool`, without the input.
    """

    of: Expression
    before: int
    settings: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """Anything else that was made of activities.

    Attributes:
        of: what it was made of.
        operation: its name.
    """

    of: tuple[Expression, ...]
    operation: str


Expression = Activity | Unit | Moved | Sum | MaxPool | Opaque


def inner(expression: Expression) -> tuple[Expression, ...]:
    """Return what an expression is directly made of."""
    if isinstance(expression, Activity):
        return ()
    if isinstance(expression, Sum):
        return tuple(term for term, _ in expression.terms)
    return expression.of if isinstance(expression, Opaque) else (expression.of,)


def parts(*expressions: Expression | None) -> list[Expression]:
    """Return expressions and everything that they are made of, each once, parts first."""
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
        left += [(part, False) for part in inner(expression) if part not in found]
    return list(found)


def activities(*expressions: Expression | None) -> set[int]:
    """Return the calls whose activities went into expressions, opaque or not."""
    return {part.call for part in parts(*expressions) if isinstance(part, Activity)}


def summed(expression: Expression) -> list[Expression]:
    """Return what an expression is a plain sum of: itself, if of nothing else."""
    if not isinstance(expression, Sum):
        return [expression]
    return [t for term, factor in expression.terms if factor == 1 for t in summed(term)]


def base(expression: Expression) -> Expression:
    """Return what an expression is a function of, element by element; a population ends it."""
    while (isinstance(expression, Unit) and not expression.population) or (
        isinstance(expression, Sum) and len(expression.terms) == 1
    ):
        expression = inner(expression)[0]
    return expression


@dataclass(frozen=True)
class Wiring:
    """How each node's input in each call, and the system's output, were made.

    Attributes:
        inputs: per call, in their order; None where no activity went in.
        output: of the system; None where it is not one tensor made of activities.
        values: that passed between the nodes, (rows, ...), by number.
        on_average: over a trial; values are then those of the first step, and say nothing.
    """

    inputs: tuple[Expression | None, ...]
    output: Expression | None
    values: dict[int, Tensor]
    on_average: bool = False

    @property
    def reported(self) -> bool:
        """Whether reports alone hold all the values that credit needs on its way."""
        return not self.unreported

    @cached_property
    def parts(self) -> list[Expression]:
        """All expressions, each once, parts first."""
        return parts(*self.inputs, self.output)

    @cached_property
    def blind(self) -> frozenset[Expression]:
        """Units and poolings that nothing was measured of; no credit passes them."""
        return frozenset(self.unreported if self.on_average else ())

    @cached_property
    def hidden(self) -> list[str]:
        """Names of what the output went through that no credit passes."""
        return [
            getattr(part, "operation", "a pooling")
            for part in parts(self.output)
            if isinstance(part, Opaque) or part in self.blind
        ]

    @cached_property
    def top(self) -> frozenset[int]:
        """Calls whose activities make up the output without passing another node."""
        return frozenset(activities(self.output))

    @cached_property
    def behind(self) -> dict[int, Unit]:
        """The unit right behind a call's activity, or a sum with it, where it is the only one."""
        found: dict[int, list[Unit]] = {}
        for part in self.parts:
            for term in summed(part.of) if isinstance(part, Unit) else ():
                if isinstance(part, Unit) and isinstance(term, Activity):
                    found.setdefault(term.call, []).append(part)
        return {call: units[0] for call, units in found.items() if len(units) == 1}

    @cached_property
    def seen(self) -> dict[Unit, tuple[int, list[Moved]]]:
        """Units whose outputs enter a node, with its call, and the moves that lie between."""
        found: dict[Unit, tuple[int, list[Moved]]] = {}
        for call, made in enumerate(self.inputs):
            unit, path = seen_in(made), []
            while isinstance(made, Moved):
                path.append(made)
                made = made.of
            if unit is not None:
                found[unit] = call, path
        return found

    @cached_property
    def unreported(self) -> set[Expression]:
        """Units and poolings of which no report has what went in and what came out."""
        seen = {part for made in self.inputs if (part := seen_in(made)) is not None}
        return {
            part
            for part in self.parts
            if (isinstance(part, Unit) and part not in seen and not part.population)
            or (isinstance(part, MaxPool) and not _pools_spikes(part))
        }


def _pools_spikes(pool: MaxPool) -> bool:
    return isinstance(pool.of, Unit) and bool(pool.of.population)


def seen_in(made: Expression | None) -> Unit | None:
    """Return the unit on an activity whose outputs are a node's input, in another shape."""
    while isinstance(made, Moved) and made.undoes:
        made = made.of
    return made if isinstance(made, Unit) and isinstance(made.of, Activity) else None
