"""What lies between the nodes, seen by watching one pass: units, reshapes, sums, poolings, time.

Credit travels from a node's input down to the activities it was made of. How these were combined
is read off the operations that PyTorch carries out in a pass, one after another, as a profiler
would: no operation is asked for its derivative, and none is known to be a certain unit. What acts
element by element is a *unit*, whatever it does; its gain is measured (see `Gate`). What only moves
or adds numbers around has an exact adjoint. Anything else is *opaque*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Activity:
    """The activity of a node in one of its calls.

    Attributes:
        call: number of the report.
    """

    call: int


@dataclass(frozen=True)
class Unit:
    """Something that acts element by element.

    Attributes:
        of: what it acts on.
        before: tap of what goes in.
        after: tap of what comes out.
    """

    of: Expression
    before: int
    after: int


@dataclass(frozen=True)
class Moved:
    """A linear operation that moves, repeats or averages numbers within each sample.

    Attributes:
        of: what it acts on.
        adjoint: credit of its output (B, ...) → credit of its input (B, ...).
        undoes: whether the adjoint also turns the output back into the input.
    """

    of: Expression
    adjoint: Callable[[Tensor], Tensor]
    undoes: bool = False


@dataclass(frozen=True)
class Sum:
    """A weighted sum, term by term.

    Attributes:
        terms: of equal shapes, with their factors.
    """

    terms: tuple[tuple[Expression, float], ...]


@dataclass(frozen=True)
class MaxPool:
    """The largest of a window: credit goes to where it was.

    Attributes:
        of: what it acts on.
        before: tap of what goes in.
        settings: of `max_pool`, without the input.
    """

    of: Expression
    before: int
    settings: tuple[Any, ...]


@dataclass(frozen=True)
class Opaque:
    """Anything else that was made of activities.

    Attributes:
        of: what it was made of.
        operation: its name.
    """

    of: tuple[Expression, ...]
    operation: str


Expression = Activity | Unit | Moved | Sum | MaxPool | Opaque


def root(expression: Expression) -> Expression:
    """Return what an expression is made of, without the unit around it."""
    return expression.of if isinstance(expression, Unit) else expression


def parts(expression: Expression | None) -> Iterator[Expression]:
    """Yield an expression and everything that it is made of."""
    if expression is None:
        return
    yield expression
    if isinstance(expression, Sum):
        for term, _ in expression.terms:
            yield from parts(term)
    elif isinstance(expression, Opaque):
        for part in expression.of:
            yield from parts(part)
    elif not isinstance(expression, Activity):
        yield from parts(expression.of)


def activities(expression: Expression | None) -> set[int]:
    """Return the calls whose activities went into an expression, opaque or not."""
    return {part.call for part in parts(expression) if isinstance(part, Activity)}
