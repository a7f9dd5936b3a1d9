"""Frozen: the error at the output trains the last node alone. A control."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.graph import Graph
from noisynets.core.record import Record
from noisynets.rules.credit.delivery import Gates, from_output
from noisynets.rules.credit.feedback import Feedback, Sent, UpdateSchedule
from noisynets.rules.credit.state import nested, unnested
from noisynets.rules.rule import RuleEntry, Traits


class Frozen(Feedback):
    """credit = gate ∘ e at the nodes before the output; hidden nodes are not trained."""

    def __init__(self) -> None:
        super().__init__(UpdateSchedule())
        self._gates = Gates()

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Return credit for the nodes before the output alone."""
        if learns:
            self._gates.update_(record)
        credits, arrived = from_output(record, self._gates)
        calls = [c if call in graph.top else None for call, c in enumerate(credits)]
        return Sent(calls, arrived.parameters, arrived.populations)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return nested({"gates": self._gates.state(), "schedule": self.schedule.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self._gates.restore(found["gates"])
        self.schedule.restore(found["schedule"])


def make(seed: int = 0) -> Frozen:
    """Return the rule; it draws nothing."""
    return Frozen()


ENTRY = RuleEntry(
    "frozen",
    "the output layer alone, by its exact error (control)",
    make,
    Traits(uses_noise=False, control=True),
    lr=1e-2,
    adam_beta2=0.99,
)
