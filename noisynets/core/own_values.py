"""Parameters that have a value of their own in every noisy pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.graph.applied import substituted
from noisynets.core.graph.places import Key, place
from noisynets.core.modes import Mode
from noisynets.core.trees import leaves
from noisynets.core.types import Node


class OwnValues(Mode):
    """While it is active, noisy pass p sees parameters at θ + ξ_p, and the reference pass at θ.

    All passes are rows of one stacked batch. What is computed from parameters alone is computed
    once for every pass; where it meets rows of activities, the rows of every pass are computed with
    its own values.

    Args:
        shifts: ξ of every parameter, (P, *parameter).
        batch: B.
        nodes: whose outputs have rows.

    Attributes:
        used: the shifts of parameters that an operation read.

    >>> gain = nn.Parameter(torch.ones(2))
    >>> rows, own = torch.ones(4, 2), OwnValues({gain: torch.full((1, 2), 0.5)}, 2, ())
    >>> own.mark(rows)
    >>> with torch.no_grad(), own:
    ...     made = rows * gain
    >>> made[:, 0].tolist()
    [1.0, 1.0, 1.5, 1.5]
    """

    def __init__(
        self,
        shifts: Mapping[nn.Parameter, Tensor],
        batch: int,
        nodes: Sequence[Node],
    ) -> None:
        super().__init__()
        self._passes = 1 + len(next(iter(shifts.values())))
        self._rows, self._nodes = self._passes * batch, nodes
        self._alive: list[Tensor] = []
        self._own: dict[Key, list[Tensor]] = {}  # of tensors made of parameters alone
        self._shifts = {place(parameter): (parameter, xi) for parameter, xi in shifts.items()}
        self.used: dict[nn.Parameter, Tensor] = {}
        self._with_rows: set[Key] = set()
        for parameter, shift in shifts.items():
            self._keep(parameter, [parameter.detach() + s for s in shift])

    def hooks(self) -> list[RemovableHandle]:
        """Register hooks that mark the outputs of nodes as rows; the caller removes them."""

        def marks(module: nn.Module, args: Any, output: Any) -> None:
            self.mark(output)

        return [node.outlet.register_forward_hook(marks) for node in self._nodes]

    def carry_out(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out one operation; with parameters, once for every pass."""
        given = leaves((args, kwargs))
        own = any(place(t) in self._own for t in given)
        with_rows = any(place(t) in self._with_rows for t in given)
        mutates = func._schema.is_mutable
        others = []
        if own:
            self.used.update(s for t in given if (s := self._shifts.get(place(t))) is not None)
            others = [self._again(func, args, kwargs, p) for p in range(self._passes - 1)]
        out = func(*args, **kwargs)
        results = leaves(out)
        for i, result in enumerate(results):
            rows = with_rows and result.dim() and len(result) and not len(result) % self._rows
            if own and rows:
                results[i] = self._joined(result, [o[i] for o in others], mutates)
            elif own:
                self._keep(result, [o[i] for o in others])
            if with_rows:
                self.mark(results[i])
        return substituted(out, lambda i, t: results[i]) if own else out

    def _again(self, func: Any, args: Any, kwargs: Any, noisy: int) -> list[Tensor]:
        """Carry out an operation with the values of a noisy pass."""
        mutates = func._schema.is_mutable

        def value(position: int, tensor: Tensor) -> Tensor:
            found = self._own.get(place(tensor))
            if found is None:
                return tensor.clone() if mutates else tensor
            return found[noisy]

        args, kwargs = substituted((args, kwargs), value)
        return leaves(func(*args, **kwargs))

    def _joined(self, result: Tensor, others: Sequence[Tensor], mutates: bool) -> Tensor:
        """Return the rows of every pass, each computed with its own values."""
        each = len(result) // self._passes
        pieces = [result, *others]
        joined = torch.cat([t[p * each : (p + 1) * each] for p, t in enumerate(pieces)])
        return result.copy_(joined) if mutates else joined

    def _keep(self, tensor: Tensor, others: list[Tensor]) -> None:
        self._alive.append(tensor)
        self._own[place(tensor)] = others

    def mark(self, tree: Any) -> None:
        """State that tensors have rows of all passes, in their first dimension or elsewhere."""
        for tensor in leaves(tree):
            self._alive.append(tensor)
            self._with_rows.add(place(tensor))
