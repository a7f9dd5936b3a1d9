"""One pass as it is traced: what its tensors hold, and the transcript of its operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.graph.expressions import Expression, Trained
from noisynets.core.graph.operations import Operation, apply, expressions_of, operation
from noisynets.core.graph.overwriting import alone, overwrite
from noisynets.core.graph.rows import row_dim
from noisynets.core.graph.transcript import Entry, Transcript, constants_of
from noisynets.core.graph.values import Held, Values
from noisynets.core.trees import leaves


class Trace:
    """One pass as it is traced.

    Args:
        last: transcript of the last pass.
        rows: of all passes.
        parameters: trained parameters between the nodes, by path.

    Attributes:
        values: what all tensors hold.
        now: transcript of this pass.
    """

    def __init__(self, last: Transcript, rows: int, parameters: Mapping[str, nn.Parameter]) -> None:
        self.values, self.now = Values(last.key), Transcript()
        self._last, self._rows = last.entries, rows
        for name, parameter in parameters.items():
            held = last.parameters.get((name, parameter.shape))
            if held is None:
                held = self.values.of(Trained(parameter, name), None, parametric=True)
            self.now.parameters[name, parameter.shape] = held
            self.values.set_(parameter, held)

    def operation(
        self, func: Any, args: Any, kwargs: dict[str, Any], name: str, mutates: bool, physical: bool
    ) -> tuple[Any, Entry | None]:
        """Carry out an operation.

        Args:
            func: the operation.
            args: its positional arguments.
            kwargs: its other arguments.
            name: without the underscore of in-place forms.
            mutates: it changes a tensor in place.
            physical: it was declared physical.

        Returns:
            What the operation returns, and its entry; None if nothing that it is given or returns
            holds an expression.
        """
        values = self.values
        given: list[Tensor] = []
        what: list[Any] = [func, physical]
        live = values.read(args, given, what)
        if kwargs:
            what += kwargs
            # The transcript outlives the pass, and must not hold a generator of the system's noise.
            kept = [v for v in kwargs.values() if not isinstance(v, torch.Generator)]
            live = values.read(kept, given, what) or live
        if not live and not mutates:
            out = func(*args, **kwargs)
            for tensor in leaves(out):
                values.set_(tensor, None)
            return out, None
        at, entry = len(self.now.entries), None
        if at < len(self._last) and self._last[at].same(what, given):
            entry = self._last[at]
        if mutates:
            values.kept.begin(given, live)
        out = func(*args, **kwargs)
        results = [out] if isinstance(out, Tensor) else leaves(out)
        if not results:
            return out, None
        for i in entry.stored if entry is not None else ():
            values.store(given[i])  # before the results hold anything
        if entry is not None and entry.give(results, values, mutates):
            if entry.applied is not None:
                apply(*entry.applied, func, args, kwargs, values, mutates)
        else:
            op = operation(name, func, args, kwargs, given, results, values, self._rows)
            op.physical = physical
            entry = self._note(op, what, mutates)
        if mutates:
            values.kept.end()
        self.now.entries.append(entry)
        return out, entry

    def made(self, what: Sequence[Any], new: Callable[[], Expression]) -> Held:
        """Return what was made at this point of the last pass, or what is new.

        Args:
            what: must be the same as then.
            new: makes it.
        """
        at = len(self.now.entries)
        if at < len(self._last) and self._last[at].same(what, ()):
            entry = self._last[at]
        else:
            entry = Entry(what, (self.values.of(new()),))
        self.now.entries.append(entry)
        (held,) = entry.made
        assert held is not None, "an expression was made"
        return held

    def _note(self, op: Operation, what: Sequence[Any], mutates: bool) -> Entry:
        """Make the expressions of an operation's results."""
        values = self.values
        values.used.clear()
        made: list[Held | None] = []
        sets: list[bool] = []
        simple = not mutates or all(alone(t, values) for t in op.results)
        expressions = expressions_of(op, values, mutates)
        constants = constants_of(op, values) if any(expressions) else ()
        for tensor, expression in zip(op.results, expressions, strict=True):
            row = row_dim(op.name, op.args, op.measured, tensor, self._rows)
            held = None
            if expression is not None:
                held = values.of(expression, row, op.of_parameters)
            before = None if mutates else values.held(tensor)
            if mutates:
                overwrite(tensor, held, values)
            elif before is None:  # else a view: the same numbers in the same place
                values.set_(tensor, held)
            made.append(held if before is None else before)
            sets.append(before is None)
        position = {id(t): i for i, t in enumerate(op.given)}
        return Entry(
            what if simple and constants is not None else None,
            tuple(made),
            tuple(sets),
            [(t.shape, t.dtype) for t in op.results],
            tuple(position[id(t)] for t in values.used),
            op.applied,
            constants or (),
        )
