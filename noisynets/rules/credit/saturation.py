"""The saturation mask: units at the limits of a converter get no credit."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.record import Record
from noisynets.rules.credit.delivery import NamedGates, activity, graph_of
from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.mirror import Maps, in_turn


class SaturationMask(NamedGates):
    """Masks activities at which a node does not follow its input, as at a converter's limits.

    A node's own gain at an activity is E[δa Mδx | a]/E[(Mδx)² | a], with a map M that expects the
    node to follow. Where the gain is below half of its mean over all activities, the credit is set
    to zero. A map that is learnt from measurements alone already contains this on average.
    """

    def update_(self, record: Record, maps: Maps) -> None:
        """Learn the gains of all nodes that have activities before them."""
        fed = [
            call
            for made, call in zip(graph_of(record).inputs, record.calls, strict=True)
            if made is not None and call.shift is not None and maps.get(call.node) is not None
        ]
        for call in in_turn(fed, self.updates):
            gate = self.gates.setdefault(call.node.name, Gate())
            known = maps.get(call.node)
            assert call.shift is not None and call.a is not None and known is not None
            made = call.delta if call.xi is None else call.delta - call.xi
            expected = known.predict(call.raw, call.shift[:1, : gate.rows])
            gate.update_(call.a, expected[0], made[0])
        self.updates += 1

    def __call__(self, call: int, record: Record, credit: Tensor) -> Tensor:
        """Return the credit (B, *out) of a call, 0 where its node is saturated."""
        gate = self.gates.get(record.calls[call].node.name)
        if gate is None:
            return credit
        mean = gate.mean
        follows = (gate(activity(record, call)) >= mean / 2) | (mean <= 0)
        return credit * follows
