"""The error at the output: the loss's own derivative, or what pairs of passes show of it."""

from __future__ import annotations

import torch
from torch import Tensor

FORGETTING = 0.02
RIDGE = 1e-3


class MeasuredError:
    """e = S⁻¹ mean(δL δy), with S = E[δy δyᵀ] over outputs y: for a loss without a derivative.

    The loss depends on the output alone, so that δL ≈ e·δy whatever made δy: E[δL δy] = S e for
    small symmetric noise. S is a running mean over the pairs. The estimate has one number of
    noise per output, not one per node as a raw rule's.

    >>> torch.manual_seed(0) and None
    >>> e, mix = torch.randn(3), torch.randn(3, 3)
    >>> y = torch.cat([torch.zeros(1, 1, 3), torch.randn(200, 1, 3) @ mix]).flatten(0, 1)
    >>> found = MeasuredError()(y, (y[1:] @ e).view(200, 1))
    >>> bool((found[0] - e).norm() < 0.01 * e.norm())
    True
    """

    def __init__(self) -> None:
        self._moment: Tensor | None = None
        self._weight: Tensor | None = None  # of what has been seen, 1 in the long run

    @torch.no_grad()
    def __call__(self, outputs: Tensor, dloss: Tensor) -> Tensor:
        """Outputs of all passes ((1+K)·B, *out), δL (K, B) → e (B, *out); learns S."""
        resamples, batch = dloss.shape
        y = outputs.unflatten(0, (1 + resamples, batch)).flatten(2)
        wide = torch.promote_types(y.dtype, torch.float32)  # there is no Cholesky for less
        delta = (y[1:] - y[0]).to(wide)
        flat = delta.flatten(0, 1)
        seen = flat.T @ flat / len(flat)
        if self._moment is None or self._weight is None:
            self._moment, self._weight = torch.zeros_like(seen), seen.new_zeros(())
        sound = seen.isfinite().all()  # a diverged pass teaches nothing
        self._moment = torch.where(sound, self._moment.lerp(seen, FORGETTING), self._moment)
        self._weight = torch.where(
            sound, self._weight.lerp(sound.to(seen), FORGETTING), self._weight
        )
        moment = self._moment / self._weight.clamp_min(torch.finfo(wide).tiny)
        ridge = RIDGE * moment.diagonal().mean() + torch.finfo(wide).tiny
        lower = torch.linalg.cholesky_ex(moment + ridge * torch.eye(len(moment)).to(moment)).L
        estimate = torch.einsum("kb,kbi->ib", dloss.to(wide), delta) / resamples
        error = torch.cholesky_solve(estimate, lower).T
        return error.to(outputs.dtype).unflatten(1, outputs.shape[1:])

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        if self._moment is None or self._weight is None:
            return {}
        return {"moment": self._moment, "weight": self._weight}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._moment, self._weight = state.get("moment"), state.get("weight")
