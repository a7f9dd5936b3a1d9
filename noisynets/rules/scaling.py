"""From loss differences along random directions to a gradient estimate: norms and means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from noisynets.core.errors import unknown
from noisynets.core.record import NodeRecord

Scaling = Callable[[float | Tensor, Tensor, float | None], Tensor]
"""(N, ‖δa‖², σ) → the factor of δL δa; ‖δa‖² per pass and sample, (K, B)."""


def count(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """N/‖δa‖²: turns a directional derivative along a random direction into a gradient."""
    return _over(size, square_norm)


def root(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """√N/‖δa‖², of an older code of the same group; smaller by √N."""
    return _over(size**0.5, square_norm)


def variance(size: float | Tensor, square_norm: Tensor, sigma: float | None) -> Tensor:
    """1/σ²; needs the σ of injected noise."""
    assert sigma is not None, "refused with the settings of the estimator"
    return torch.full_like(square_norm, sigma**-2)


SCALINGS: dict[str, Scaling] = {"count": count, "root": root, "variance": variance}


def needs_sigma(scaling: Scaling) -> bool:
    """Return True if a scaling uses the σ of injected noise."""
    return scaling is variance


def find_scaling(name: str) -> Scaling:
    """Return the scaling of a name.

    Raises:
        InputError: for an unknown name.
    """
    if name not in SCALINGS:
        raise unknown("scaling", name, SCALINGS)
    return SCALINGS[name]


def along_differences(
    calls: Sequence[NodeRecord], dloss: Tensor, scaling: Scaling
) -> Iterator[Tensor]:
    """Yield δL δa_l N/‖δa‖², one credit (B, *out) per call; N and the norm run over all calls."""
    factor = directional(calls, dloss, scaling)
    for call in calls:
        yield along(factor, call)


def directional(calls: Sequence[NodeRecord], dloss: Tensor, scaling: Scaling) -> Tensor:
    """δL N / ‖δa‖² per pass and sample, (K, B); N and the norm run over all `calls`.

    Times δa, this is the directional derivative of the loss along δa, as a gradient estimate. If
    δa is the mean over several draws of noise, its variance is smaller by their number, so that
    its square is multiplied by that number; and so is the credit, see `along`.
    """
    n = sum(call.delta[0, 0].numel() for call in calls)
    square_norm = torch.stack([_norm(call) for call in calls]).square().sum(0)
    first = calls[0]
    sigma = None if first.sigma is None else first.sigma * first.draws**0.5
    return dloss[first.own] * scaling(n, square_norm, sigma)


def _norm(call: NodeRecord) -> Tensor:
    norm = torch.linalg.vector_norm(call.delta.flatten(2), dim=2)
    return norm if call.draws == 1 else norm * call.draws**0.5


def along(factor: Tensor, call: NodeRecord) -> Tensor:
    """Credit (B, *out) along a call's δa, for a factor from `directional`."""
    factor = factor if call.draws == 1 else factor * call.draws
    return mean_over_passes(factor, call.delta)


def mean_over_passes(factor: Tensor, delta: Tensor) -> Tensor:
    """(1/K) Σ_k factor_k δ_k: (K, B), (K, B, *out) → (B, *out).

    Contracting K here, before the outer product, makes K resamples cost one weight product.
    """
    if len(delta) == 1:
        return factor[0].reshape(-1, *[1] * (delta.dim() - 2)) * delta[0]
    return torch.einsum("kb,kb...->b...", factor / len(delta), delta)


def _over(numerator: float | Tensor, square_norm: Tensor) -> Tensor:
    """Divide; 0 where nothing moved."""
    return torch.where(square_norm > 0, numerator / square_norm, 0)
