"""What a rule is, and the two things that rules share: a scaling, and a sum over the passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.types import Report

Scaling = Callable[[float | Tensor, Tensor, float | None], Tensor]
"""(N, ‖δa‖², σ) → the factor that stands before δL δa; ‖δa‖² per pass and sample, (K, B)."""


def count(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """N/‖δa‖²: turns a directional derivative along a random direction into a gradient."""
    return _over(size, square_norm)


def root(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """√N/‖δa‖², of an older code of the same group; smaller by √N."""
    return _over(size**0.5, square_norm)


def variance(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """1/σ², of *Correlations are ruining your gradient descent*; needs the injected σ."""
    assert sigma is not None, "refused with the settings of the estimator"
    return torch.full_like(square_norm, sigma**-2)


SCALINGS: dict[str, Scaling] = {"count": count, "root": root, "variance": variance}


@dataclass(frozen=True)
class Rule:
    """A rule, and what it asks of the passes.

    Attributes:
        name: as on the command line.
        summary: one line.
        credit: (reports, dloss (P, B), scaling) → one credit (B, *out) per report, one after the
            other, so that no more than one need be held. Linear in dloss, the mean over K; the
            mean over the batch is taken by whoever scales dloss.
        in_turn: perturb one node per noisy pass, so that P = K · nodes.
        reads_noise: the reports must carry ξ, so the rule refuses a noise that is not ours.
        scaled: whether the scaling makes a difference to it.
    """

    name: str
    summary: str
    credit: Callable[[Sequence[Report], Tensor, Scaling], Iterable[Tensor]]
    in_turn: bool = False
    reads_noise: bool = False
    scaled: bool = True

    @property
    def injects(self) -> bool:
        """Whether the rule works only with a noise that we inject."""
        return self.in_turn or self.reads_noise


def directional(reports: Sequence[Report], dloss: Tensor, scaling: Scaling) -> Tensor:
    """δL N / ‖δa‖² per pass and sample, (K, B); N and the norm run over all `reports`.

    Times δa, this is the directional derivative of the loss along δa, as a gradient estimate. Where
    δa is a mean over several draws of noise, whose variance is smaller by their number, its square
    counts, and it must be taken, as many times; see `along`.
    """
    n = sum(r.delta[0, 0].numel() for r in reports)
    square_norm = torch.stack([_norm(r) for r in reports]).square().sum(0)
    first = reports[0]
    sigma = None if first.sigma is None else first.sigma * first.draws**0.5
    return dloss[first.own] * scaling(n, square_norm, sigma)


def _norm(report: Report) -> Tensor:
    norm = torch.linalg.vector_norm(report.delta.flatten(2), dim=2)
    return norm if report.draws == 1 else norm * report.draws**0.5


def along(factor: Tensor, report: Report) -> Tensor:
    """Credit (B, *out) along a report's δa, for a factor from `directional`."""
    factor = factor if report.draws == 1 else factor * report.draws
    return mean_over_passes(factor, report.delta)


def mean_over_passes(factor: Tensor, delta: Tensor) -> Tensor:
    """(1/K) Σ_k factor_k δ_k: (K, B), (K, B, *out) → (B, *out).

    Contracting K here, before the outer product, makes K resamples cost one weight product.
    """
    if len(delta) == 1:
        return factor[0].reshape(-1, *[1] * (delta.dim() - 2)) * delta[0]
    return torch.einsum("kb,kb...->b...", factor / len(delta), delta)


def _over(numerator: float | Tensor, square_norm: Tensor) -> Tensor:
    """Divide, and give 0 where nothing moved: a pair without a difference says nothing."""
    return torch.where(square_norm > 0, numerator / square_norm, 0)
