"""Share: innovation, with the credit at the output exact and its share subtracted from δL."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.graph import Graph
from noisynets.core.record import Record
from noisynets.rules.credit.delivery import known_calls
from noisynets.rules.credit.feedback import Feedback, Sent
from noisynets.rules.innovation import Innovation
from noisynets.rules.rule import RuleEntry, Traits


class Share(Feedback):
    """ĝ = r ε N/‖ε‖² at every hidden node, r = δL − ε_out·e; the output gets its exact credit.

    A control variate: what the output's own noise did to the loss is known, and is left out.
    """

    uses_dloss = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = Innovation()

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Return exact credit at the output, estimates of the rest, and learn from the record."""
        found, top = self.inner.estimates(record, known_calls(record))
        return Sent([top[call] if call in graph.top else g for call, g in enumerate(found)])

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return self.inner.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.inner.restore(state)


def make(seed: int = 0) -> Share:
    """Return the rule; it draws nothing."""
    return Share()


ENTRY = RuleEntry(
    "share",
    "innovation, with the output's error exact and its share taken out (unbiased)",
    make,
    Traits(unbiased=True),
)
