"""Statistics of a diagnosis: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

ENDLESS = 1e9
"""Signal-to-noise ratio reported for a signal without noise."""


def signal_to_noise(draws: Tensor) -> float | None:
    """Return the signal-to-noise ratio of estimates of one gradient, ‖E ĝ‖²/E‖ĝ − E ĝ‖².

    The squared mean of M draws is corrected for its remaining noise, 1/M of that of one draw.

    Args:
        draws: ĝ, (M, n), with M ≥ 2 independent draws of the noise.

    Returns:
        At least 0, at most `ENDLESS`; None if all draws are zero.

    >>> torch.manual_seed(0) and None
    >>> draws = torch.tensor([3.0, 4.0]) + torch.randn(20_000, 2)  # 25 to 2
    >>> round(signal_to_noise(draws))
    12
    """
    draws = draws.double()
    mean = draws.mean(0)
    noise = float((draws - mean).square().sum() / (len(draws) - 1))
    signal = float(mean.square().sum()) - noise / len(draws)
    if not float(draws.square().sum()):
        return None
    return min(max(signal, 0.0) / noise, ENDLESS) if noise > 0 else ENDLESS


def cosine(draws: Tensor, gradient: Tensor) -> float | None:
    """Return the mean cosine between single estimates and a gradient.

    Args:
        draws: estimates (M, n).
        gradient: (n,).

    Returns:
        From −1 to 1; None if the gradient or an estimate is zero.

    >>> cosine(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([2.0, 0.0]))
    0.7071...
    """
    draws, gradient = draws.double(), gradient.double()
    norms = draws.norm(dim=1) * gradient.norm()
    if not bool(norms.all()):
        return None
    return float((draws @ gradient / norms).mean())


def explained(target: Tensor, predicted: Tensor) -> float | None:
    """Return R² = 1 − Σ(target − predicted)²/Σ target²; None if the target is zero.

    >>> explained(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    0.75
    """
    target, predicted = target.double(), predicted.double()
    whole = float(target.square().sum())
    return 1 - float((target - predicted).square().sum()) / whole if whole else None


def repeated(first: Tensor, second: Tensor) -> Tensor:
    """Return the correlation over samples between every unit's outputs in different passes.

    Cov(y, y')/√(Var y Var y') over samples, summed over passes and, for a convolution, positions.

    Args:
        first: y, outputs in the reference pass, (B, units, *positions).
        second: y', outputs in the noisy passes, (K, B, units, *positions).

    Returns:
        (units,), from −1 to 1; NaN for a unit whose output is constant up to rounding.

    >>> torch.manual_seed(0) and None
    >>> y = torch.randn(10_000, 2)
    >>> noisy = torch.stack([y[:, 0], y[:, 0] + y[:, 1], torch.ones(10_000)], 1)
    >>> other = torch.stack([y[:, 0], y[:, 0] + torch.randn(10_000), torch.ones(10_000)], 1)
    >>> [round(float(r), 1) for r in repeated(noisy, other.unsqueeze(0))]
    [1.0, 0.5, nan]
    """
    rounded = torch.finfo(torch.float32).eps ** 2 * 100
    size = _by_unit(first.double().square())
    one, other = first.double(), second.double()
    one, other = one - one.mean(0), other - other.mean(1, keepdim=True)
    mine, theirs = _by_unit(one.square()), _by_unit(other.square().mean(0))
    still = (mine <= rounded * size) & (theirs <= rounded * size)
    both = _by_unit((one * other).mean(0))
    power = (mine * theirs).sqrt()
    return torch.where(still, torch.nan, torch.where(power > 0, both / power, 0))


def _by_unit(product: Tensor) -> Tensor:
    """Sum over samples and positions: (B, units, *positions) → (units,)."""
    return product.sum([0, *range(2, product.dim())])


class Ridge:
    """Ridge regression of outputs on inputs over all rows added so far.

    M = S_ax (S_xx + λ I)⁻¹ from sums in double precision; the limit that an online regression can
    reach.

    Args:
        ridge: λ relative to the mean square of the inputs.

    Attributes:
        rows: number of rows added so far.

    >>> torch.manual_seed(0) and None
    >>> x, found = torch.randn(50, 3), Ridge()
    >>> found.add_(x, x @ torch.tensor([[1.0, 2.0, 3.0]]).T)
    >>> [round(float(v), 3) for v in found.map[0]]
    [1.0, 2.0, 3.0]
    """

    def __init__(self, ridge: float = 1e-6) -> None:
        self._ridge = ridge
        self._xx: Tensor | None = None
        self._ax: Tensor | None = None
        self.rows = 0

    def add_(self, x: Tensor, a: Tensor) -> None:
        """Add rows of inputs (..., N, n_in) and outputs (..., N, n_out)."""
        x, a = x.double(), a.double()
        xx, ax = x.mT @ x, a.mT @ x
        self._xx = xx if self._xx is None else self._xx + xx
        self._ax = ax if self._ax is None else self._ax + ax
        self.rows += x.shape[-2]

    @property
    def map(self) -> Tensor:
        """M, (..., n_out, n_in)."""
        assert self._xx is not None and self._ax is not None, "no rows were added"
        square = self._xx.diagonal(dim1=-2, dim2=-1).mean(-1)
        scale = square * self._ridge + torch.finfo(torch.float64).tiny
        eye = torch.eye(self._xx.shape[-1], dtype=torch.float64, device=self._xx.device)
        solved, _ = torch.linalg.solve_ex(self._xx + scale[..., None, None] * eye, self._ax.mT)
        return solved.mT
