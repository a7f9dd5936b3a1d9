"""InTime(rule): credit for every step of a trial, from any feedback that gives it to the mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.record import Needs, Record
from noisynets.rules.credit.delivery import graph_of
from noisynets.rules.credit.eligibility import Eligibility
from noisynets.rules.credit.feedback import Feedback
from noisynets.rules.credit.state import nested, unnested
from noisynets.rules.rule import Assigned, Combinator, Credit, StepCredit


class InTime(Combinator):
    """Distributes the credit of mean spikes among the steps of the trial by eligibilities.

    Args:
        inner: gives the credit of the mean spikes; credit of nodes that feed no neurons is passed
            on.
    """

    inner: Feedback

    def __init__(self, inner: Feedback) -> None:
        self.inner = inner
        self._eligibilities: dict[str, Eligibility] = {}

    def needs(self, system: nn.Module) -> Needs:
        """Return what the inner rule needs, and every step of the trial."""
        return replace(self.inner.needs(system), averages=True, steps=True)

    @property
    def due(self) -> bool:  # type: ignore[override]
        """True if the inner rule needs noisy passes in the next step."""
        return self.inner.due

    def __call__(self, record: Record) -> Iterable[Credit]:
        """Return one credit per call."""
        return self.assign(record).calls

    def assign(self, record: Record) -> Assigned:
        """Return one credit per call, and what the inner rule gives parameters."""
        learns = self.inner.due
        sent = self.inner.assign(record)
        credits: list[Credit] = list(sent.calls)
        for name, population in record.populations.items():
            if population.pairs is None:
                continue
            new = name not in self._eligibilities
            eligibility = self._eligibilities.setdefault(name, Eligibility())
            if new or learns:
                eligibility.update_(population.pairs)
        for call, name in graph_of(record).fed.items():
            x, arrived = record.calls[call].steps, sent.populations.get(name)
            steps = record.populations[name].steps
            if credits[call] is None or x is None or steps is None:
                continue
            if arrived is None:
                raise InputError(
                    "credit for every step: this rule sends no credit to the spikes of "
                    f"{name!r}: use --credit-over trial (the rule without InTime), or rule 'anp'"
                )
            gain, traces = self._eligibilities[name](steps, x)
            credits[call] = StepCredit(arrived.unsqueeze(1) * gain / x.shape[1], traces)
        return Assigned(credits, sent.parameters)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        times = nested({name: e.state() for name, e in self._eligibilities.items()})
        return nested({"inner": self.inner.state(), "time": times})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        parts = unnested(state)
        self.inner.restore(parts["inner"])
        self._eligibilities.clear()
        for name, part in unnested(parts.get("time", {})).items():
            self._eligibilities[name] = Eligibility()
            self._eligibilities[name].restore(part)
