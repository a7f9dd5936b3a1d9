"""The numbers of a diagnosis, from draws: pure functions."""

from __future__ import annotations

import torch
from torch import Tensor

ENDLESS = 1e9
"""Stands for a signal without any noise."""


def signal_to_noise(draws: Tensor) -> float | None:
    """‖E ĝ‖²/E‖ĝ − E ĝ‖², of estimates of one gradient.

    The square of the mean of M draws still holds 1/M of the noise, which is taken out.

    Args:
        draws: ĝ, (M, n), of M ≥ 2 independent noises.

    Returns:
        At least 0, at most `ENDLESS`; None where all draws are zero.

    >>> torch.manual_seed(0) and None
    >>> draws = torch.tensor([3.0, 4.0]) + torch.randn(20_000, 2)  # 25 to 2
    >>> round(signal_to_noise(draws), 1)
    12.5
    """
    draws = draws.double()
    mean = draws.mean(0)
    noise = float((draws - mean).square().sum() / (len(draws) - 1))
    signal = float(mean.square().sum()) - noise / len(draws)
    if not float(draws.square().sum()):
        return None
    return min(max(signal, 0.0) / noise, ENDLESS) if noise > 0 else ENDLESS


def cosine(draws: Tensor, gradient: Tensor) -> float | None:
    """Mean cosine of single estimates (M, n) with a gradient (n,); None where either is zero.

    >>> cosine(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([2.0, 0.0]))
    0.7071...
    """
    draws, gradient = draws.double(), gradient.double()
    norms = draws.norm(dim=1) * gradient.norm()
    if not bool(norms.all()):
        return None
    return float((draws @ gradient / norms).mean())


def explained(target: Tensor, predicted: Tensor) -> float | None:
    """R² = 1 − Σ(target − predicted)²/Σ target², about zero; None for a target of zeros.

    >>> explained(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
    0.75
    """
    target, predicted = target.double(), predicted.double()
    whole = float(target.square().sum())
    return 1 - float((target - predicted).square().sum()) / whole if whole else None


def repeated(first: Tensor, second: Tensor) -> Tensor:
    """Share of each unit's variance over samples that is there again in other passes, (units,).

    Cov(y, y')/√(Var y Var y') over samples, summed over passes and, for a convolution, positions;
    0 where a unit never changes.

    Args:
        first: outputs in the reference pass, (B, units, *positions).
        second: in the noisy passes, (K, B, units, *positions).

    >>> y = torch.randn(100, 2)
    >>> noisy = torch.stack([y[:, 0], torch.ones(100)], 1)
    >>> repeated(noisy, noisy.unsqueeze(0)).tolist()
    [1.0, 0.0]
    """
    first, second = first.double(), second.double()
    one, other = first - first.mean(0), second - second.mean(1, keepdim=True)
    positions = list(range(2, one.dim()))

    def summed(product: Tensor) -> Tensor:
        return product.sum([0, *positions]) if positions else product.sum(0)

    both = summed((one * other).mean(0))
    power = (summed(one.square()) * summed(other.square().mean(0))).sqrt()
    # what rounding alone has changed is no change
    size = summed(first.square()) * torch.finfo(torch.float32).eps ** 2 * 100
    still = (summed(one.square()) <= size) & (summed(other.square().mean(0)) <= size)
    return torch.where((power > 0) & ~still, both / power, 0)


class Ridge:
    """Least squares of outputs on inputs from all rows ever shown, with a little ridge.

    M = S_ax (S_xx + λ)⁻¹, from sums in double precision: what a map that learns on the way would
    be at best.

    Args:
        ridge: λ relative to the mean square of the inputs.

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
        """Show rows: inputs (N, n_in), outputs (N, n_out)."""
        x, a = x.double(), a.double()
        xx, ax = x.T @ x, a.T @ x
        self._xx = xx if self._xx is None else self._xx + xx
        self._ax = ax if self._ax is None else self._ax + ax
        self.rows += len(x)

    @property
    def map(self) -> Tensor:
        """M, (n_out, n_in)."""
        assert self._xx is not None and self._ax is not None, "nothing was shown"
        scale = self._xx.diagonal().mean() * self._ridge + torch.finfo(torch.float64).tiny
        eye = torch.eye(len(self._xx), dtype=torch.float64, device=self._xx.device)
        solved, _ = torch.linalg.solve_ex(self._xx + scale * eye, self._ax.T)
        return solved.T
