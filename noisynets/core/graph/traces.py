"""What is known of the forward of a system from the passes before."""

from __future__ import annotations

from typing import Any

from noisynets.core.graph.program import Program
from noisynets.core.graph.transcript import Transcript
from noisynets.core.trees import leaves

PATIENCE, GROWTH = 1, 8
"""Repeats of a pass before a program is written in the next one; factor after one that misfits."""


class Traces:
    """The transcripts and programs of a system, by the number of rows of all passes.

    Args:
        most: numbers of rows of which they are kept: pairs and single passes, of whole batches and
            of a last one.

    Attributes:
        patience: passes with the same rows that must have repeated the one before, in a row, before
            a program is written: few at first, and more after each program that did not fit.
    """

    def __init__(self, most: int = 4) -> None:
        self.patience: float = PATIENCE
        self._most = most
        self._facts: dict[Any, tuple[str, bool]] = {}
        self._found: dict[int, Transcript] = {}
        self._programs: dict[int, Program | None] = {}

    def facts(self, func: Any) -> tuple[str, bool]:
        """Return the name of an operation without the underscore, and True if it mutates."""
        found = self._facts.get(func)
        if found is None:
            name = func.overloadpacket.__name__.removesuffix("_")
            found = self._facts[func] = name, func._schema.is_mutable
        return found

    def last(self, rows: int) -> Transcript:
        """Return the transcript of the last pass with so many rows; an empty one before."""
        return self._found.get(rows, Transcript())

    def keep(self, rows: int, transcript: Transcript) -> None:
        """Keep the transcript of a pass."""
        self._found.pop(rows, None)
        self._found[rows] = transcript
        if len(self._found) > self._most:
            oldest = next(iter(self._found))
            del self._found[oldest]
            self._programs.pop(oldest, None)

    def program(self, rows: int) -> Program | None:
        """Return the program of passes with so many rows; None: they are traced."""
        return self._programs.get(rows)

    def wants_program(self, rows: int) -> bool:
        """Return True if the next pass with so many rows should write a program."""
        return self.last(rows).repeats >= self.patience and rows not in self._programs

    def keep_program(self, rows: int, program: Program | None) -> None:
        """Keep the program of a pass; None: it has none, and there will be none."""
        self._programs[rows] = program

    def misfit(self) -> None:
        """Forget all programs: the forward did another thing than one of them."""
        self.patience *= GROWTH
        self._programs.clear()


class TracesByShape:
    """What is known of a forward for inputs of every shape, such as sequences of every length.

    Args:
        most: shapes that are kept, the latest ones.

    >>> import torch
    >>> known = TracesByShape()
    >>> first = known(torch.zeros(4, 7))
    >>> known(torch.zeros(8, 7)) is first, known(torch.zeros(4, 5)) is first
    (True, False)
    """

    def __init__(self, most: int = 32) -> None:
        self._most = most
        self._found: dict[tuple[Any, ...], Traces] = {}

    def __call__(self, inputs: Any) -> Traces:
        """Return the traces of inputs (B, ...), or of a tree; B does not matter."""
        key = tuple((tensor.shape[1:], tensor.dtype) for tensor in leaves(inputs))
        found = self._found.pop(key) if key in self._found else Traces()
        self._found[key] = found  # the latest one
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]
        return found
