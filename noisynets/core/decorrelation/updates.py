"""Updates of R: one pure function per variant, from R and rows of the layer's input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Update = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(R (n, n), x (rows, n), x_raw (rows, n), rate) → the new R."""


def offdiag(R: Tensor, x: Tensor, raw: Tensor, rate: float) -> Tensor:
    """R − η C R with C = (xᵀx/B) ∘ (1 − I): removes correlations and leaves the variances.

    Computed as two thin products, 4 B n² operations instead of 2 B n² + 2 n³.

    Source: the released code of Dalm, van Gerven and Ahmad (arXiv 2310.00965).
    """
    return torch.addmm(R, x.T, x @ R, alpha=-rate / len(x)).addcmul_(
        x.square().mean(0).unsqueeze(1), R, value=rate
    )


def kappa(
    R: Tensor, x: Tensor, raw: Tensor, rate: float, *, kappa: float = 0.5, rows: bool = False
) -> Tensor:
    """R − η[(1−κ) C R + κ v∘R], v_j = mean(x_j² − 1): also moves the variances towards 1.

    v scales the columns of R, as broadcast in that repository; with `rows` it scales the rows,
    which compute x_j.

    Source: github.com/artcogsys/decorbp.
    """
    v = x.square().mean(0) - 1
    scaled = R * (v.unsqueeze(1) if rows else v)
    return offdiag(R, x, raw, rate * (1 - kappa)).sub_(scaled, alpha=rate * kappa)


def rescaled(R: Tensor, x: Tensor, raw: Tensor, rate: float) -> Tensor:
    """(I − η C) g R with the full C = xᵀx/B and g = mean(‖x_raw‖/‖x‖): keeps the length of x.

    In the source, and here, R multiplies from the right: x = x_raw R.

    Source: *Correlations are ruining your gradient descent* (arXiv 2407.10780).
    """
    g = (raw.norm(dim=1) / x.norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)).mean()
    return g * torch.addmm(R, x.T, x @ R, alpha=-rate / len(x))


VARIANTS: dict[str, Update] = {
    "offdiag": offdiag,
    "kappa": kappa,
    "kappa-rows": partial(kappa, rows=True),
    "rescaled": rescaled,
}
