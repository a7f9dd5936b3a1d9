"""Direct feedback: each hidden call's credit is F e, with the error e at the output."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.graph import Graph
from noisynets.core.record import Record
from noisynets.rules.credit.delivery import Gates, from_output, graph_of, is_intrinsic, known_calls
from noisynets.rules.credit.direct_maps import DirectMaps
from noisynets.rules.credit.explained import Explained
from noisynets.rules.credit.feedback import Feedback, Sent, UpdateSchedule
from noisynets.rules.credit.mirror import Maps, mirror_of
from noisynets.rules.credit.state import nested, unnested


class DirectFeedback(Feedback):
    """credit_l = F_l e ∘ gate_l for every hidden call, directly from the error at the output.

    Args:
        direct: the maps F.
    """

    def __init__(self, direct: DirectMaps) -> None:
        super().__init__(UpdateSchedule())
        self.maps = Maps(mirror_of)
        self._direct = direct
        self._gates = Gates()
        self._explained = Explained()

    @property
    def reads_dloss(self) -> bool:
        """True if loss differences teach the maps."""
        return self._direct.taught

    def unexplained(self, record: Record) -> list[str]:
        """Return the paths of all hidden nodes if their credit explains nothing of δL."""
        graph, known = graph_of(record), known_calls(record)
        if not self._direct.taught or not known:
            return []
        hidden = set(range(len(record.calls))) - graph.top
        taught, _ = self._direct.credits(record, hidden, self.maps, self._gates, learns=False)
        top, _ = from_output(record, self._gates)
        noise = self.maps.innovations(record)

        def share(call: int, credit: Tensor) -> Tensor:
            return (noise[call] * credit).flatten(2).sum(2)

        residual = record.dloss - sum(share(call, top[call]) for call in known)
        self._explained.add_(
            residual, sum((share(*pair) for pair in taught.items()), start=0 * residual)
        )
        names = {record.calls[call].node.name for call in hidden}
        return sorted(names) if self._explained.nothing else []

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Send credit directly to every hidden call, and learn from the record if `learns`."""
        if learns:
            self._gates.update_(record)
            if is_intrinsic(record):
                self.maps.update_(record)
        credits, arrived = from_output(record, self._gates)
        hidden = set(range(len(record.calls))) - graph.top
        taught, populations = self._direct.credits(record, hidden, self.maps, self._gates, learns)
        for call, credit in taught.items():
            credits[call] = credit
        return Sent(list(credits), arrived.parameters, arrived.populations | populations)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        parts = {
            "maps": self.maps.state(),
            "gates": self._gates.state(),
            "direct": self._direct.state(),
            "schedule": self.schedule.state(),
        }
        return nested(parts)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        parts = unnested(state)
        self.schedule.restore(parts["schedule"])
        self.maps.restore(parts["maps"])
        self._gates.restore(parts["gates"])
        self._direct.restore(parts.get("direct", {}))
