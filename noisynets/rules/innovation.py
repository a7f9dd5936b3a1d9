"""Innovation: ANP along the noise that entered at each node, which makes it unbiased."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.graph import Graph
from noisynets.core.record import Record
from noisynets.rules import anp
from noisynets.rules.credit.delivery import (
    Gates,
    from_output,
    is_intrinsic,
)
from noisynets.rules.credit.delivery import (
    estimates as noise_estimates,
)
from noisynets.rules.credit.feedback import Feedback, Sent
from noisynets.rules.credit.mirror import Maps, mirror_of
from noisynets.rules.credit.state import nested, unnested
from noisynets.rules.roll_outs import innovations
from noisynets.rules.rule import RollOutForm, RuleEntry, Traits


class Innovation(Feedback):
    """ĝ = δL ε N/‖ε‖² at every node, with ε the noise that entered there; unbiased for small noise.

    ANP's estimate is biased because δa also contains what came from upstream; ε = δa − M δx does
    not. If the noise is injected, ε is ξ.
    """

    uses_dloss = True

    def __init__(self) -> None:
        super().__init__()
        self.maps = Maps(mirror_of)
        self._gates = Gates()

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Return the estimate ĝ of every call, and learn from the record."""
        found, _ = self.estimates(record)
        return Sent(list(found))

    def estimates(
        self, record: Record, calls: frozenset[int] = frozenset()
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return ĝ per call, the share of some calls subtracted from δL, and exact credit."""
        self._gates.update_(record)
        if is_intrinsic(record):
            self.maps.update_(record)
        top, _ = from_output(record, self._gates)
        return noise_estimates(record, self.maps.innovations(record), top, calls), top

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return nested({"maps": self.maps.state(), "gates": self._gates.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.maps.restore(found["maps"])
        self._gates.restore(found["gates"])


def make(seed: int = 0) -> Innovation:
    """Return the rule; it draws nothing."""
    return Innovation()


ENTRY = RuleEntry(
    "innovation",
    "anp along what entered at each node, without what came from upstream (unbiased)",
    make,
    Traits(unbiased=True),
    roll_out=RollOutForm(anp.make, innovations, options=("scaling",)),
)
