"""Means over a trial: what a node or a population measured in all steps, added up as it comes.

On average over a trial a spiking network is a static one, from mean currents to mean spikes; rules
that look at it so need no more memory for a longer trial. The credit for a mean activity is that
for a shift of the activity in every step, Σ_t ∂loss/∂a_t, and belongs to the mean input:
credit ⊗ x̄ is the gradient of the weights where inputs stay the same, and close to it where the
credit varies little within a trial.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.types import Population, Report, Response, Stateful

TENSORS = ("x", "raw", "delta", "xi", "a", "shift")


@contextmanager
def trial(system: nn.Module) -> Iterator[None]:
    """Begin from rest, and leave no state behind, whatever happens.

    >>> from noisynets.systems.spiking import Leaky
    >>> neuron = Leaky(beta=0.9)
    >>> with trial(neuron):
    ...     _ = neuron(torch.ones(1, 1))
    >>> [float(neuron(torch.full((1, 1), 0.6))) for _ in range(2)]
    [0.0, 1.0]
    """
    stateful = [module for module in system.modules() if isinstance(module, Stateful)]
    for module in stateful:
        module.forget()
    try:
        yield
    finally:
        for module in stateful:
            module.forget()


def wide(x: Tensor) -> Tensor:
    """Return numbers wide enough to be added up: short floats lose what is small beside a sum."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class Means:
    """The mean of a node's reports.

    Args:
        first: the first report.
        held: whether the injected noise stays the same through the trial; else it is drawn anew
            in every step, so that the mean of T draws has the standard deviation σ/√T.
        keep_steps: keep the input of every step.
    """

    def __init__(self, first: Report, held: bool, keep_steps: bool = False) -> None:
        self._first = first
        self._held = held
        self._steps = [first.x] if keep_steps else None
        self._sums = {
            name: wide(value).clone()
            for name in TENSORS
            if (value := getattr(first, name)) is not None
            and not (name == "raw" and first.raw is first.x)
        }
        self._count = 1

    def add_(self, report: Report) -> None:
        """Add the report of one step."""
        for name, total in self._sums.items():
            total += getattr(report, name)
        if self._steps is not None:
            self._steps.append(report.x)
        self._count += 1

    def report(self) -> Report:
        """Return the mean so far."""
        n = self._count
        like = self._first.delta
        means: dict[str, Any] = {k: (total / n).to(like) for k, total in self._sums.items()}
        means.setdefault("raw", means["x"])
        draws = 1 if self._held else n
        sigma = None if self._first.sigma is None else self._first.sigma / draws**0.5
        steps = None if self._steps is None else torch.stack(self._steps, 1)
        return replace(self._first, sigma=sigma, steps=steps, draws=draws, **means)


ROWS = 16
"""Samples whose steps are kept in all passes, to learn from."""


class Account:
    """What went into a population and what came out, rows of all passes, added up over a trial.

    Args:
        name: path of the population.
        population: whose it is.
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
        self._membrane: Tensor | None = None
        self._dtype = torch.float32
        self._count = 0

    def add_(self, current: Tensor, output: Tensor) -> None:
        """Add one step."""
        current, output = current.detach(), output.detach()
        if len(current) != self._rows[0] * self._rows[1]:
            return
        self._count += 1
        self._membrane = self.population.membrane
        if self._count == 1:
            self._sums = [wide(current).clone(), wide(output).clone()]
            self._dtype = current.dtype
        else:
            self._sums[0] += current
            last = self.population.final
            self._sums[1] = wide(output).clone() if last else self._sums[1] + output
        if self._steps is not None:
            both = torch.stack([current, output]).unflatten(1, self._rows)
            self._steps.append(both[:, 0].clone())
            self._pairs.append(both[:, :, :ROWS].clone())

    def response(self) -> Response | None:
        """Return the means; None if it was never called with rows of all passes."""
        if not self._count:
            return None
        current = (self._sums[0] / self._count).to(self._dtype).unflatten(0, self._rows)
        spikes = self._sums[1] if self.population.final else self._sums[1] / self._count
        spikes = spikes.to(self._dtype).unflatten(0, self._rows)
        membrane = self._membrane
        return Response(
            self.name,
            current=current[0],
            shift=current[1:] - current[0],
            spikes=spikes[0],
            change=spikes[1:] - spikes[0],
            membrane=None if membrane is None else membrane[: self._rows[1]].detach().clone(),
            steps=torch.stack(self._steps, 2) if self._steps else None,
            pairs=torch.stack(self._pairs, 3) if self._pairs else None,
        )


def populations(system: nn.Module, name: str = "") -> dict[str, Population]:
    """Return the populations by their paths; one inside another belongs to it."""
    if isinstance(system, Population):
        return {name: system}
    found: dict[str, Population] = {}
    for child, module in system.named_children():
        found |= populations(module, f"{name}.{child}".lstrip("."))
    return found


def has_state(system: nn.Module) -> bool:
    """Whether anything in a system keeps a state from step to step."""
    return any(isinstance(module, Stateful) for module in system.modules())
