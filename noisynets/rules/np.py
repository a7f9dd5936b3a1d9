"""NP, node perturbation: loss difference times injected noise."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from noisynets.core.record import Needs, NodeRecord, Record
from noisynets.rules.roll_outs import injections
from noisynets.rules.rule import RollOutForm, Rule, RuleEntry, Traits
from noisynets.rules.scaling import mean_over_passes


class NP(Rule):
    """credit_l = δL ξ_l / σ².

    Unbiased for small σ. Its variance grows with the number of nodes. It uses the injected noise ξ.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965).
    """

    def needs(self, system: nn.Module) -> Needs:
        """Return what the rule needs: injected noise, and its values."""
        return Needs(injection=True, noise=True)

    def __call__(self, record: Record) -> Iterator[Tensor]:
        """Return one credit (B, *out) per call."""
        return (_credit(call, record.dloss[call.own]) for call in record.calls)


def _credit(call: NodeRecord, dloss: Tensor) -> Tensor:
    assert call.xi is not None and call.sigma is not None, "NP uses the injected noise"
    return mean_over_passes(dloss / call.sigma**2, call.xi)


def make(seed: int = 0) -> NP:
    """Return the rule; it draws nothing by itself."""
    return NP()


ENTRY = RuleEntry(
    "np",
    "node perturbation: loss difference times injected noise (1 + K passes, unbiased)",
    make,
    Traits(unbiased=True),
    roll_out=RollOutForm(make, injections),
    lr=4e-3,
    decorrelated_lr=2e-3,
)
