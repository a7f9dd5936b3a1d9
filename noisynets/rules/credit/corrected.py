"""δL corrections: what loss differences say beyond what a feedback has predicted."""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.rules.credit.credit import Feedback, Innovation, Traced, estimates
from noisynets.rules.credit.maps import Maps, geometry, nested, unnested
from noisynets.rules.credit.mirror import Mirror
from noisynets.rules.credit.pair import Pair


class Corrected:
    """credit + α r ε N/‖ε‖², r = δL − Σ ε·credit: any feedback, with what δL has left over.

    For α = 1 and small noise this is unbiased whatever a feedback says that has not seen this δL;
    it is then a control variate: the better it predicts δL, the less noise. Below 1 it trades
    bias for noise.

    Args:
        feedback: gives the credit; not from this very δL, as `Innovation` does.
        share: α, from 0 to 1.
    """

    def __init__(self, feedback: Feedback, share: float = 1.0) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"a correction of {share:g} must be within 0..1")
        if isinstance(feedback, Innovation):
            raise InputError("the credit of innovation and share is made of δL: nothing is left")
        self.feedback, self.share = feedback, share
        self.maps = Maps(lambda node: Mirror(geometry(node)))

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """One credit (B, *out) per report; what the feedback leaves untrained stays so."""
        if pair.intrinsic:
            self.maps.update_(pair)
        credits = self.feedback(pair)
        given: list[Tensor | None] = []
        for credit in credits:
            if isinstance(credit, Traced):
                raise InputError("credit in steps has no δL correction: use credit_over='trial'")
            given.append(credit)
        zeros = [torch.zeros_like(report.delta[0]) for report in pair.reports]
        known = [zero if g is None else g for g, zero in zip(given, zeros, strict=True)]
        more = estimates(pair, self.maps.innovations(pair), known, range(len(known)))
        return [None if g is None else g + self.share * m for g, m in zip(given, more, strict=True)]

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return nested({"of": self.feedback.state(), "maps": self.maps.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.feedback.restore(found.get("of", {}))
        self.maps.restore(found["maps"])
