"""Recorders: from what the hooks measure in each call to the record of a batch.

On average over a trial a spiking network is a static one, from mean currents to mean spikes. A
rule that uses these means needs no more memory for a longer trial. The credit for a mean activity
is that for a shift of the activity in every step, Σ_t ∂loss/∂a_t, and is combined with the mean
input: credit ⊗ x̄ is the gradient of the weights where inputs stay constant, and close to it where
the credit varies little within a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from noisynets.core.errors import SystemRefused
from noisynets.core.record import NodeRecord, PopulationRecord, Trajectory
from noisynets.core.trial import Population
from noisynets.core.types import Node

TENSORS = ("x", "raw", "delta", "xi", "a", "shift")

ROWS = 16
"""Samples of which every step of every pass is kept."""

SAMPLED = 16
"""Steps of a trial, at most, that are kept of what is not linear in its input."""

Item = TypeVar("Item")


class Spread(Generic[Item]):
    """At most `most` items of a sequence of any length: every 1st, 2nd, 4th, ..., evenly spread.

    >>> spread = Spread(most=4)
    >>> for item in range(11):
    ...     spread.add_(item)
    >>> spread.items
    [0, 4, 8]
    """

    def __init__(self, most: int = SAMPLED) -> None:
        self.items: list[Item] = []
        self._most, self._every, self._seen = most, 1, 0

    def add_(self, item: Item) -> None:
        """Take the next item of the sequence, and keep it or not."""
        if self._seen % self._every == 0:
            self.items.append(item)
        if len(self.items) > self._most:
            del self.items[1::2]
            self._every *= 2
        self._seen += 1


def wide(x: Tensor) -> Tensor:
    """Return numbers in a dtype wide enough for sums; short floats lose small addends."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class NodeMean:
    """The mean of a node's records over its calls.

    Args:
        first: the first record.
        held: the injected noise stays the same through the trial. If not, it is drawn anew in
            every step, so that the mean of T draws has the standard deviation σ/√T.
        keep_steps: keep the input of every step.
        samples: keep the records of some steps.
    """

    def __init__(
        self, first: NodeRecord, held: bool, keep_steps: bool = False, samples: bool = False
    ) -> None:
        self._first = first
        self._held = held
        self._steps = [first.x] if keep_steps else None
        self._sampled: Spread[NodeRecord] | None = Spread() if samples else None
        if self._sampled is not None:
            self._sampled.add_(first)
        self._sums = {
            name: wide(value).clone()
            for name in TENSORS
            if (value := getattr(first, name)) is not None
            and not (name == "raw" and first.raw is first.x)
            and value.is_floating_point()
        }
        self._count = 1

    def add_(self, record: NodeRecord) -> None:
        """Add the record of one step."""
        for name, total in self._sums.items():
            total += getattr(record, name)
        if "x" not in self._sums and not torch.equal(record.x, self._first.x):
            raise SystemRefused(
                f"{record.node.name!r}: its integer inputs change from step to step, and have no "
                "mean over a trial: give credit step by step (--credit-over steps)"
            )
        if self._steps is not None:
            self._steps.append(record.x)
        if self._sampled is not None:
            self._sampled.add_(record)
        self._count += 1

    def record(self) -> NodeRecord:
        """Return the mean so far."""
        n = self._count
        like = self._first.delta
        means: dict[str, Any] = {k: (total / n).to(like) for k, total in self._sums.items()}
        means.setdefault("raw", means.get("x", self._first.raw))
        draws = 1 if self._held else n
        sigma = None if self._first.sigma is None else self._first.sigma / draws**0.5
        steps = None if self._steps is None else torch.stack(self._steps, 1)
        sampled = () if self._sampled is None else tuple(self._sampled.items)
        first = replace(self._first, sigma=sigma, steps=steps, draws=draws, sampled=sampled)
        return replace(first, **means)


class PopulationMean:
    """Inputs and outputs of a population in all passes, summed over a trial.

    Args:
        name: path of the population.
        population: module whose output counts at the last step alone if it is `final`.
        passes: 1 + K.
        batch: B.
        keep_steps: keep every step.
    """

    def __init__(
        self, name: str, population: Population, passes: int, batch: int, keep_steps: bool = False
    ) -> None:
        self.name = name
        self.population = population
        self._rows = (passes, batch)
        self._sums: list[Tensor] = []
        self._steps: list[Tensor] | None = [] if keep_steps and not population.final else None
        self._pairs: list[Tensor] = []
        self._dtype = torch.float32
        self._count = 0

    def hook(self) -> Callable[..., None]:
        """Return a forward hook that adds one step."""

        def add(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
            current: Tensor = args[0] if args else next(iter(kwargs.values()))
            if len(current) == self._rows[0] * self._rows[1]:
                self._add_(current.detach(), output.detach())

        return add

    def _add_(self, current: Tensor, output: Tensor) -> None:
        self._count += 1
        if self._count == 1:
            self._sums = [wide(current).clone(), wide(output).clone()]
            self._dtype = current.dtype
        else:
            self._sums[0] += current
            if self.population.final:
                self._sums[1] = wide(output).clone()
            else:
                self._sums[1] = self._sums[1] + output
        if self._steps is not None:
            both = torch.stack([current, output]).unflatten(1, self._rows)
            self._steps.append(both[:, 0].clone())
            self._pairs.append(both[:, :, :ROWS].clone())

    def record(self) -> PopulationRecord | None:
        """Return the means; None if the population was never called with rows of all passes."""
        if not self._count:
            return None
        current = (self._sums[0] / self._count).to(self._dtype).unflatten(0, self._rows)
        spikes = self._sums[1] if self.population.final else self._sums[1] / self._count
        spikes = spikes.to(self._dtype).unflatten(0, self._rows)
        return PopulationRecord(
            self.name,
            current=current[0],
            shift=current[1:] - current[0],
            spikes=spikes[0],
            change=spikes[1:] - spikes[0],
            steps=torch.stack(self._steps, 2) if self._steps else None,
            pairs=torch.stack(self._pairs, 3) if self._pairs else None,
        )


Step = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""x and a of all passes, raw of the reference pass, and ξ, of one call: (x, raw, a, ξ)."""


def trajectory(
    node: Node, steps: Sequence[Step], passes: int, batch: int, own: slice, sigma: float | None
) -> Trajectory:
    """Stack the calls of a node along time.

    Args:
        node: that was called.
        steps: one per call.
        passes: 1 + P.
        batch: B.
        own: the noisy passes in which noise enters at the node.
        sigma: of the injected noise.
    """
    x, raw, a, xi = zip(*steps, strict=True)
    injected = [noise for noise in xi if noise is not None]
    return Trajectory(
        node,
        x=torch.stack(x, 1).unflatten(0, (passes, batch)),
        raw=torch.stack(raw, 1),
        a=torch.stack(a, 1).unflatten(0, (passes, batch)),
        own=own,
        xi=torch.stack(injected, 2) if injected else None,
        sigma=sigma,
    )
