"""Means over a trial: what a node or a population measured in all steps, added up as it comes.

On average over a trial a spiking network is a static one, from mean currents to mean spikes; rules
that look at it so need no more memory for a longer trial. The credit for a mean activity is that
for a shift of the activity in every step, Σ_t ∂loss/∂a_t, and belongs to the mean input:
credit ⊗ x̄ is the gradient of the weights where inputs stay the same, and close to it where the
credit varies little within a trial.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from noisynets.types import Population, Report, Response, Stateful

TENSORS = ("x", "raw", "delta", "xi", "a", "shift")


class Means:
    """The mean of a node's reports.

    Args:
        held: whether the injected noise stays the same through the trial; else it is drawn anew
            in every step, so that the mean of T draws has the standard deviation σ/√T.
    """

    def __init__(self, first: Report, held: bool) -> None:
        self._first = first
        self._held = held
        self._sums = {
            name: value.clone()
            for name in TENSORS
            if (value := getattr(first, name)) is not None
            and not (name == "raw" and first.raw is first.x)
        }
        self._count = 1

    def add_(self, report: Report) -> None:
        """Add the report of one step."""
        for name, total in self._sums.items():
            total += getattr(report, name)
        self._count += 1

    def report(self) -> Report:
        """Return the mean so far."""
        n = self._count
        means: dict[str, Tensor] = {name: total / n for name, total in self._sums.items()}
        means.setdefault("raw", means["x"])
        sigma = self._first.sigma
        if sigma is not None and not self._held:
            sigma = sigma / n**0.5
        return replace(self._first, sigma=sigma, **means)


class Account:
    """What went into a population and what came out, rows of all passes, added up over a trial."""

    def __init__(self, name: str, population: Population) -> None:
        self.name = name
        self._population = population
        self._in: Tensor | None = None
        self._out: Tensor | None = None
        self._membrane: Tensor | None = None
        self._count = 0

    def add_(self, current: Tensor, output: Tensor) -> None:
        """Add one step."""
        current, output = current.detach(), output.detach()
        self._count += 1
        self._membrane = self._population.membrane
        if self._in is None or self._out is None:
            self._in, self._out = current.clone(), output.clone()
            return
        self._in += current
        if self._population.final:
            self._out = output.clone()
        else:
            self._out += output

    def response(self, passes: int, batch: int) -> Response | None:
        """Return the means; None if it was never called with rows of all passes."""
        if self._in is None or self._out is None or len(self._in) != passes * batch:
            return None
        n = self._count
        current = (self._in / n).unflatten(0, (passes, batch))
        output = self._out if self._population.final else self._out / n
        spikes = output.unflatten(0, (passes, batch))
        membrane = self._membrane
        return Response(
            self.name,
            current=current[0],
            shift=current[1:] - current[0],
            spikes=spikes[0],
            change=spikes[1:] - spikes[0],
            membrane=None if membrane is None else membrane[:batch].detach().clone(),
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

