"""Transcripts: what a traced pass made, so that the next one makes only what is new.

A forward may do another thing in every batch, and so each of its operations is seen. What an
operation made in the last pass is used again if everything is as it was then that its expressions
depend on: the operation, what its tensors hold, their shapes and dtypes, its other arguments, and
the constants whose values are part of an expression. Otherwise its expressions are made anew, and
with them those of all that is computed from it. The values of a batch are never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisynets.core.graph.expressions import Graph
from noisynets.core.graph.operations import Operation
from noisynets.core.graph.values import Held, Values


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation of a pass, or one call of a node, with what it made.

    Attributes:
        what: all that must be the same for this to be used again; None: it never is.
        made: what each result holds; None: nothing.
        sets: by result; False: the result is a view, at the place of what held this before.
        kinds: shape and dtype of every result.
        stored: positions of the tensors whose values are stored, among those of the arguments.
        applied: key of a digital operation, and the positions of its live tensors.
        constants: values of constants that are part of an expression, by position.
        mutates: it changed a tensor in place.
    """

    what: Sequence[Any] | None
    made: tuple[Held | None, ...]
    sets: tuple[bool, ...] = ()
    kinds: Sequence[Any] = ()
    stored: tuple[int, ...] = ()
    applied: tuple[int, tuple[int, ...]] | None = None
    constants: tuple[tuple[int, Tensor], ...] = ()
    mutates: bool = False

    def same(self, given: Sequence[Tensor]) -> bool:
        """Return True if the constants among the arguments have the same values."""
        return all(torch.equal(value, given[i]) for i, value in self.constants)

    def fits(self, results: Sequence[Tensor], values: Values) -> bool:
        """Return True if the results are of the same kind, at places of the same kind."""
        if kinds(results) != self.kinds:
            return False
        if self.mutates:
            return all(map(values.alone, results))
        pairs = zip(results, self.made, self.sets, strict=True)
        return all(values.held(t) is (None if sets else made) for t, made, sets in pairs)


@dataclass
class Transcript:
    """What a traced pass made.

    Attributes:
        entries: in order.
        parameters: what the parameters between the nodes hold, by path.
        key: the first unused key of a value.
        graph: of the pass; None before any.
    """

    entries: list[Entry] = field(default_factory=list)
    parameters: dict[str, Held] = field(default_factory=dict)
    key: int = 0
    graph: Graph | None = None


class Traces:
    """The transcripts of a system, by the number of rows of all passes.

    Args:
        most: numbers of rows of which transcripts are kept: pairs and single passes, of whole
            batches and of a last one.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._found: dict[int, Transcript] = {}
        self._facts: dict[Any, tuple[str, bool]] = {}

    def last(self, rows: int) -> Transcript:
        """Return the transcript of the last pass with so many rows; an empty one before."""
        return self._found.get(rows, Transcript())

    def keep(self, rows: int, transcript: Transcript) -> None:
        """Keep the transcript of a pass."""
        self._found.pop(rows, None)
        self._found[rows] = transcript
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]

    def facts(self, func: Any) -> tuple[str, bool]:
        """Return the name of an operation without the underscore, and True if it mutates."""
        found = self._facts.get(func)
        if found is None:
            name = func.overloadpacket.__name__.removesuffix("_")
            found = self._facts[func] = name, func._schema.is_mutable
        return found


def read(part: Any, given: list[Tensor], held: list[Held | None], values: Values) -> Any:
    """Return an argument with what a tensor in it holds, and its kind, in place of the tensor.

    Args:
        part: the argument.
        given: receives its tensors.
        held: receives what they hold.
        values: of the pass.
    """
    if isinstance(part, Tensor):
        holds = values.held(part)
        given.append(part)
        held.append(holds)
        first = 0 if len(given) == 1 else next(i for i, t in enumerate(given) if t is part)
        return holds, part.shape, part.dtype, first
    if isinstance(part, list | tuple):
        return [read(one, given, held, values) for one in part]
    return part


def kinds(tensors: Sequence[Tensor]) -> list[Any]:
    """Return the shape and the dtype of every tensor."""
    return [(t.shape, t.dtype) for t in tensors]


def constants_of(op: Operation, values: Values) -> tuple[tuple[int, Tensor], ...] | None:
    """Return the constants whose values an operation's expressions may contain.

    Returns:
        Values by position; None if they cannot be compared without making the host wait.
    """
    if op.applied is not None or op.opaque:
        return ()
    live = {id(t) for t, _ in op.live if t.dim()}
    added = op.name in ("add", "sub")
    found = [
        (i, values.before(t).detach().clone())
        for i, t in enumerate(op.given)
        if id(t) not in live and not (added and t.numel() > 1)
    ]
    return tuple(found) if all(t.device.type == "cpu" for _, t in found) else None
