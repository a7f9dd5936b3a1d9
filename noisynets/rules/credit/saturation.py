"""Where nodes do not follow what enters them: at the ends of a converter, say."""

from __future__ import annotations

from torch import Tensor

from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.maps import ByName, Maps, in_turn
from noisynets.rules.credit.pair import Pair


class Ends(ByName):
    """Takes the credit from activities at which a node stands still, whatever enters it.

    A node's own gain at an activity is E[δa Mδx | a]/E[(Mδx)² | a], with a map M that expects it to
    follow. Where that is below half of the mean over all activities, no change of weights would
    show. A map that follows nothing but measurements has that in it already, on average.
    """

    def update_(self, pair: Pair, maps: Maps) -> None:
        """Learn the gains of all nodes that other nodes come before, from what maps expect."""
        fed = [
            report
            for made, report in zip(pair.wiring.inputs, pair.reports, strict=True)
            if made is not None and report.shift is not None and report.node in maps
        ]
        for report in in_turn(fed, self._updates):
            gate = self._gates.setdefault(report.node.name, Gate())
            assert report.shift is not None and report.a is not None
            made = report.delta if report.xi is None else report.delta - report.xi
            expected = maps[report.node].predict(report.shift[0, : gate.rows])
            gate.update_(report.a, expected.view_as(made[0, : gate.rows]), made[0])
        self._updates += 1

    def __call__(self, call: int, pair: Pair, credit: Tensor) -> Tensor:
        """Credit (B, *out) of a call, 0 where its node stands still."""
        gate = self._gates.get(pair.reports[call].node.name)
        if gate is None:
            return credit
        mean = gate.mean
        follows = (gate(pair.activity(call)) >= mean / 2) | (mean <= 0)
        return credit * follows
