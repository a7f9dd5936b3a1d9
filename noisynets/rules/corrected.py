"""Corrected(rule): adds what the loss differences show beyond the credit of a feedback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.record import Needs, Record
from noisynets.rules.credit.delivery import estimates, is_intrinsic
from noisynets.rules.credit.mirror import Maps, mirror_of
from noisynets.rules.credit.state import nested, unnested
from noisynets.rules.rule import Assigned, Combinator, Credit, Rule, StepCredit


class Corrected(Combinator):
    """credit + α r ε N/‖ε‖², r = δL − Σ ε·credit: a control variate.

    For α = 1 and small noise this is unbiased for any feedback whose credit does not use this very
    δL: the better the credit predicts δL, the less noise is left. Below 1 it trades bias for noise.

    Args:
        inner: gives the credit; not made of this very δL, nor for every step.
        share: α, from 0 to 1.

    Raises:
        InputError: for a share outside 0..1, or a rule whose credit is made of δL.
    """

    def __init__(self, inner: Rule, share: float = 1.0) -> None:
        if not 0 <= share <= 1:
            raise InputError(f"a correction of {share:g} must be within 0..1")
        if inner.uses_dloss:
            raise InputError("the credit of this rule is made of δL: nothing is left to correct")
        self.inner, self.share = inner, share
        self.maps = Maps(mirror_of)

    @property
    def reads_dloss(self) -> bool:
        """True: what δL shows beyond the credit is added to it."""
        return True

    def needs(self, system: nn.Module) -> Needs:
        """Return what the inner rule needs."""
        return replace(self.inner.needs(system), exact_error=True)

    def __call__(self, record: Record) -> Iterable[Credit]:
        """Return one credit (B, *out) per call; None for calls that the inner rule leaves out."""
        return self.assign(record).calls

    def assign(self, record: Record) -> Assigned:
        """Return the corrected credit of every call, and what the inner rule gives parameters.

        Raises:
            InputError: for credit in steps.
        """
        if is_intrinsic(record):
            self.maps.update_(record)
        given: list[Tensor | None] = []
        assigned = self.inner.assign(record)
        for credit in assigned.calls:
            if isinstance(credit, StepCredit):
                raise InputError("credit in steps has no δL correction: use --credit-over trial")
            given.append(credit)
        zeros = [torch.zeros_like(call.delta[0]) for call in record.calls]
        known = [zero if g is None else g for g, zero in zip(given, zeros, strict=True)]
        more = estimates(record, self.maps.innovations(record), known, range(len(known)))
        pairs = zip(given, more, strict=True)
        calls = [None if g is None else g + self.share * m for g, m in pairs]
        return Assigned(calls, assigned.parameters)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return nested({"inner": self.inner.state(), "maps": self.maps.state()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        found = unnested(state)
        self.inner.restore(found.get("inner", {}))
        self.maps.restore(found["maps"])
