"""Direct feedback: each node's credit is F e, with the error e at the output."""

from __future__ import annotations

import zlib
from typing import Protocol

import torch
from torch import Tensor


class Direct(Protocol):
    """A map from the output's error to a node's credit."""

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""


class Fixed:
    """F random and fixed: direct feedback alignment, Nøkland (2016). The control.

    Args:
        name: of the node; decides F together with `seed`.
        seed: of F.

    >>> feedback = Fixed("layer")
    >>> feedback(torch.ones(4, 3), 5).shape
    torch.Size([4, 5])
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self._seed = zlib.crc32(f"{seed}:{name}".encode())
        self._map: Tensor | None = None

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""
        if self._map is None:
            generator = torch.Generator().manual_seed(self._seed)
            drawn = torch.randn(error.shape[1], n, generator=generator) / error.shape[1] ** 0.5
            self._map = drawn.to(error)
        return error @ self._map

    def state(self) -> dict[str, Tensor]:
        """Return nothing: the seed says it all."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""


class Learned:
    """F = S_ge S_ee⁻¹: the node's estimated gradient, regressed on the output's error.

    S_ge and S_ee are running second moments. Nothing that F predicts enters its own targets, so
    that the regression is as stable as a mean. Perturbation-taught feedback: Lansdell, Prakash and
    Kording, *Learning to solve the credit assignment problem* (ICLR 2020).

    Args:
        forgetting: share by which each update replaces what came before.
        ridge: relative to the mean square of e.

    >>> feedback, e = Learned(), torch.randn(500, 2)
    >>> F = torch.tensor([[1.0, -1.0], [0.0, 2.0], [3.0, 0.0]])
    >>> feedback.update_(e @ F.T, e, torch.ones(500, 3))
    >>> bool((feedback(e, 3) - e @ F.T).abs().max() < 0.3)
    True
    """

    def __init__(self, forgetting: float = 0.002, ridge: float = 1e-3) -> None:
        self.forgetting, self.ridge = forgetting, ridge
        self._moments: dict[str, Tensor] = {}
        self._map: Tensor | None = None  # Fᵀ, until the next update
        self._updates = 0

    @torch.no_grad()
    def update_(self, estimate: Tensor, error: Tensor, gate: Tensor) -> None:
        """Learn from the rows of a batch: ĝ (B, n), e (B, n_e), and gates (B, n)."""
        wide = torch.promote_types(error.dtype, torch.float32)
        estimate, error, gate = (t.to(wide) for t in (estimate, error, gate))
        found = {
            "ge": (estimate * gate).T @ error / len(error),
            "ee": error.T @ error / len(error),
            "gate": gate.square().mean(0),
        }
        rate = max(self.forgetting, 1 / (1 + self._updates))  # at first, a plain mean
        old = {k: v.to(error.device) for k, v in self._moments.items()} or found
        sound = torch.stack([new.isfinite().all() for new in found.values()]).all()
        self._moments = {
            name: torch.where(sound, old[name].lerp(new, rate), old[name].nan_to_num())
            for name, new in found.items()
        }
        self._map = None
        self._updates += 1

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""
        if not self._moments:
            return error.new_zeros(len(error), n)
        if self._map is None:
            self._map = self._regressed()
        return (error.to(self._map) @ self._map).to(error.dtype)

    def _regressed(self) -> Tensor:
        """Return Fᵀ, (n_e, n)."""
        ge, ee, gate = (self._moments[name] for name in ("ge", "ee", "gate"))
        scale = ee.diagonal().mean()
        tiny = torch.finfo(ee.dtype).tiny
        ridge = torch.eye(len(ee), dtype=ee.dtype, device=ee.device) * (scale * self.ridge + tiny)
        solved, _ = torch.linalg.solve_ex(ee + ridge, ge.T)
        return solved / (gate + RARE * gate.mean() + tiny)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        return self._moments | ({"n": torch.tensor(self._updates)} if self._moments else {})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._moments, self._map = {k: v for k, v in state.items() if k != "n"}, None
        self._updates = int(state["n"]) if state else 0


RARE = 0.01
"""Units that hardly ever move are held back: share of the mean square gate."""
