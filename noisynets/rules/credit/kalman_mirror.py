"""Mirrors that are Kalman filters: commanded changes predict, measured differences correct."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.rules.credit.mirror import ProductMap
from noisynets.rules.credit.products import shown

MEMORY = 0.9
"""Share of the running statistics that is kept from one update to the next."""
FLOOR = 0.01
"""Least R, relative to what P expects of the residuals."""
FIRST, LEAST, MOST = 0.1, 1e-6, 1e6
"""κ at first, and its bounds."""
RATE = 0.3
"""Exponent with which κ follows the measured step size."""
SHORTEST, LONGEST = 0.1, 10.0
"""Bounds of a measured step size."""
NAMES = ("map", "p", "q", "step", "known")


class KalmanMirror(ProductMap):
    """M with δa ≈ M δx, that follows commanded changes and corrects what devices made of them.

    A commanded change of the weights is taken over, and makes M uncertain in proportion:

    M ← M + ΔW,  P ← P + κ Q,  Q = diag(mean over the outputs of ΔW²)

    P (n_in, n_in) is the covariance of the error of a row of M, one for all rows. Measured
    differences δX (N, n_in) and δA (N, n_out) correct M, with E = δA − δX Mᵀ:

    G = P δXᵀ (δX P δXᵀ + R)⁻¹,  M ← M + D, D = (G E)ᵀ,  P ← P − G δX P

    R is the running mean of what residuals exceed, mean(E²) − tr(δX P δXᵀ)/N, and at least 1 % of
    the second term. At first M = 0 and P = p 1, with p such that both terms are equal. κ is the
    share of a change that is an error of writing. It is measured: the *next* rows show which
    multiple μ of D would have explained most, as in `Mirror`, and κ ← κ μ^0.3, so that steps which
    were too short make P larger. Every group of a grouped convolution has its own M, P, R and κ.

    P takes n_in² numbers, and an update N n_in² operations.

    Source: Kalman, *A new approach to linear filtering and prediction problems* (1960), for the
    rows of a matrix; taken-over changes as in Kolen and Pollack (1994).

    Args:
        layer: gives the geometry: no weight is read.
        rows: used in one update, at most.

    Attributes:
        lag: see `Map`.
    """

    learns = True
    lag: Tensor | None = None

    def __init__(self, layer: nn.Module, rows: int = 128) -> None:
        super().__init__(layer)
        self.rows = rows
        self._kept: dict[str, Tensor] = {}  # NAMES; known: ⟨E, δX Dᵀ⟩, ‖δX Dᵀ‖², R, weight, κ
        self._updates = 0

    @torch.no_grad()
    def follow_(self, change: Tensor) -> None:
        """Take over a commanded change of the weights.

        Args:
            change: ΔW, of the shape of the map; nothing is taken over before the first update.
        """
        if self._kept:
            self._kept["map"] = self._kept["map"] + change
            self._kept["q"] = self._kept["q"] + change.square().mean(-2)

    @torch.no_grad()
    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn from differences; see `Map`."""
        inputs, outputs = shift.flatten(0, 1), made.flatten(0, 1)
        x, a = shown(self.layer, inputs, outputs, self.rows, self._updates)
        wide = torch.promote_types(x.dtype, torch.float32)  # Cholesky needs at least float32
        x, a = x.to(wide), a.to(wide)
        if not self._kept:
            self._begin(x, a)
        kept = self._kept
        error = a - x @ kept["map"].mT
        known = self._measured(error, x @ kept["step"].mT, a)
        p = kept["p"] + torch.diag_embed(known[4].unsqueeze(-1) * kept["q"])
        xp = x @ p
        expected = (xp * x).sum((-2, -1)) / x.shape[-2]
        excess = error.square().mean((-2, -1)) - expected
        known[2:4] = MEMORY * known[2:4] + (1 - MEMORY) * torch.stack(
            [excess, excess.new_ones(excess.shape)]
        )
        noise = torch.maximum(known[2] / known[3], FLOOR * expected)
        gram = xp @ x.mT
        gram.diagonal(dim1=-2, dim2=-1).add_((noise + torch.finfo(wide).tiny).unsqueeze(-1))
        root = torch.linalg.cholesky_ex(gram).L
        half = torch.linalg.solve_triangular(root, xp, upper=False)
        step = torch.linalg.solve_triangular(root, error, upper=False).mT @ half
        p = p - half.mT @ half
        found = {"map": kept["map"] + step, "p": p, "step": step, "known": known}
        found["q"] = torch.zeros_like(kept["q"])
        sound = torch.stack([value.isfinite().all() for value in found.values()]).all()
        self._kept = {name: torch.where(sound, found[name], kept[name]) for name in NAMES}
        self._updates += 1

    def _begin(self, x: Tensor, a: Tensor) -> None:
        """Set M = 0, and P such that it expects residuals as large as the first ones."""
        groups, n = x.shape[:-2], x.shape[-1]
        size = x.square().sum(-1).mean(-1)
        scale = torch.where(size > 0, a.square().mean((-2, -1)) / size, 0)
        empty = x.new_zeros(*groups, a.shape[-1], n)
        known = x.new_zeros(5, *groups)
        known[4] = FIRST
        eye = torch.eye(n, dtype=x.dtype, device=x.device)
        p = scale[..., None, None] * eye
        self._kept = {"map": empty, "p": p, "q": x.new_zeros(*groups, n)}
        self._kept |= {"step": torch.zeros_like(empty), "known": known}

    def _measured(self, error: Tensor, predicted: Tensor, a: Tensor) -> Tensor:
        """Return the running statistics, with the step size and κ as fresh rows show them."""
        known = self._kept["known"].clone()
        before = error + predicted  # the error of these rows without the last step
        explained = (before * predicted).sum((-2, -1))
        self.lag = explained.sum() / a.square().sum()
        top = MEMORY * known[0] + explained
        bottom = MEMORY * known[1] + predicted.square().sum((-2, -1))
        size = torch.where(bottom > 0, top / bottom, 1).clamp(SHORTEST, LONGEST)
        known[0], known[1] = top, bottom
        known[4] = (known[4] * size**RATE).clamp(LEAST, MOST)
        return known

    @property
    def map(self) -> Tensor | None:
        """M, (out, in of one product), with groups one per group; None before the first update."""
        return self._kept.get("map")

    @property
    def covariance(self) -> Tensor | None:
        """P, (in, in), with groups one per group; None before the first update."""
        return self._kept.get("p")

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return self._kept | {"n": torch.tensor(self._updates)} if self._kept else {}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._kept = {name: state[name].to(device) for name in NAMES} if state else {}
        self._updates = int(state["n"]) if state else 0
