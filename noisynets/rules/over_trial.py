"""OverTrial(rule): credit for the mean over a trial, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor, nn

from noisynets.core.record import Needs, Record
from noisynets.rules.rule import Assigned, Combinator, Credit, Rule


class OverTrial(Combinator):
    """Gives a rule one record per node, the mean over its calls, instead of one per call.

    Args:
        inner: the rule.
    """

    def __init__(self, inner: Rule) -> None:
        self.inner = inner

    def needs(self, system: nn.Module) -> Needs:
        """Return what the inner rule needs, as means over the trial."""
        return replace(self.inner.needs(system), averages=True)

    @property
    def due(self) -> bool:  # type: ignore[override]
        """True if the inner rule needs noisy passes in the next step."""
        return self.inner.due

    def __call__(self, record: Record) -> Iterable[Credit]:
        """Return one credit per node."""
        return self.inner(record)

    def assign(self, record: Record) -> Assigned:
        """Return what the inner rule assigns."""
        return self.inner.assign(record)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return self.inner.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.inner.restore(state)
