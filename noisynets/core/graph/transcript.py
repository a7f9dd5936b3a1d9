"""Transcripts: what a traced pass made, so that the next one makes only what is new.

A forward may do another thing in every batch, and so each of its operations is seen. What an
operation made in the last pass is used again if everything is as it was then that its expressions
depend on: the operation, what its tensors hold, their shapes and dtypes, its other arguments, and
the constants whose values are part of an expression. Otherwise its expressions are made anew, and
with them those of all that is computed from it. The values of a batch are never used again.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from noisynets.core.graph.expressions import Graph
from noisynets.core.graph.operations import JOINS, Operation
from noisynets.core.graph.overwriting import alone
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
        applied: key of a digital operation, the positions of its live tensors, and the shapes of
            its results.
        constants: values of constants that are part of an expression, by position.
    """

    what: Sequence[Any] | None
    made: tuple[Held | None, ...]
    sets: tuple[bool, ...] = ()
    kinds: Sequence[Any] = ()
    stored: tuple[int, ...] = ()
    applied: tuple[int, tuple[int, ...], tuple[torch.Size, ...]] | None = None
    constants: tuple[tuple[int, Tensor], ...] = ()

    def same(self, what: Sequence[Any], given: Sequence[Tensor]) -> bool:
        """Return True if all is as it was.

        Args:
            what: as the attribute.
            given: the tensors among the arguments.
        """
        if self.what != what:
            return False
        return not self.constants or all(torch.equal(v, given[i]) for i, v in self.constants)

    def give(self, results: Sequence[Tensor], values: Values, mutates: bool) -> bool:
        """Let results hold what they held, if they are of the same kind, at such places.

        Returns:
            True if they do; False if nothing has changed.
        """
        if mutates and not all(alone(t, values) for t in results):
            return False
        if [(t.shape, t.dtype) for t in results] != self.kinds:
            return False
        done: list[Tensor] = []
        for tensor, held, sets in zip(results, self.made, self.sets, strict=True):
            if mutates:
                values.set_(tensor, held)
            elif not (values.claim(tensor, held) if sets else values.held(tensor) is held):
                for other in done:
                    values.set_(other, None)
                return False
            elif sets:
                done.append(tensor)
        return True


@dataclass
class Transcript:
    """What a traced pass made.

    Attributes:
        entries: in order.
        parameters: what the parameters between the nodes hold, by path and shape.
        key: the first unused key of a value.
        graph: of the pass; None before any.
        repeats: passes before it, in a row, that made the same.
    """

    entries: list[Entry] = field(default_factory=list)
    parameters: dict[tuple[str, torch.Size], Held] = field(default_factory=dict)
    key: int = 0
    graph: Graph | None = None
    repeats: int = 0

    def end(self, graph: Graph, key: int, last: Transcript) -> None:
        """Note how a pass ended, with the transcript of the one before."""
        same = graph is last.graph and len(self.entries) == len(last.entries)
        same = same and all(map(operator.is_, self.entries, last.entries))
        self.graph, self.key, self.repeats = graph, key, last.repeats + 1 if same else 0


def constants_of(op: Operation, values: Values) -> tuple[tuple[int, Tensor], ...] | None:
    """Return the constants whose values an operation's expressions may contain.

    Returns:
        Values by position; None if they cannot be compared without making the host wait.
    """
    if op.applied is not None or op.opaque or op.name in JOINS:
        return ()
    live = {id(t) for t, _ in op.live if t.dim()}
    added = op.name in ("add", "sub")
    found = [
        (i, values.kept.before(t).detach().clone())
        for i, t in enumerate(op.given)
        if id(t) not in live and not (added and t.numel() > 1)
    ]
    return tuple(found) if all(t.device.type == "cpu" for _, t in found) else None
