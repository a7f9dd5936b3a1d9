"""Eligibility: which steps of a trial a neuron's weights owe its spikes to.

On average over a trial a weight's share in the credit is its mean input. Where the time of a spike
is what matters, that says nothing. What every step did can be measured, too: a difference of the
input current stays in the potential for a while, and makes a spike the more likely, the closer
the potential is to threshold. So

    ∂s̄/∂W ≈ (1/T) Σ_t g(v_t) ⊗ x̃_t,   x̃_t = Σ_{t'≤t} λ^{t−t'} x_t',

with the gain g measured as for any unit, E[δs δã | v]/E[δã² | v], from currents and spikes alone:
δã_t = Σ_{t'≤t} λ^{t−t'} δa_t' is what is left of differences of the current, and
v_t = Σ_{t'≤t} λ^{t−t'} (a_t' − θ s_{t'−1}) stands for the potential, which need not be readable.
λ is the decay under which differences of the current explain most of the differences of the
spikes, and θ what v is on average at a spike.

Kin: eligibility propagation (Bellec et al., Nature Communications 11, 2020) and SuperSpike (Zenke
and Ganguli, Neural Computation 30, 2018), which take the potential and its pseudo-derivative from
the model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.state import nested, unnested

DECAYS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def trace(x: Tensor, decay: float | Tensor) -> Tensor:
    """Σ_{t'≤t} λ^{t−t'} x_t' along dimension 1: (B, T, ...) → (B, T, ...).

    >>> trace(torch.tensor([[[1.0], [0.0], [1.0]]]), 0.5).flatten().tolist()
    [1.0, 0.5, 1.25]
    """
    steps = torch.arange(x.shape[1], device=x.device)
    age = (steps[:, None] - steps).to(x.dtype)
    kernel = torch.where(age >= 0, torch.as_tensor(decay, dtype=x.dtype) ** age.clamp_min(0), 0)
    return torch.einsum("ts,bs...->bt...", kernel, x)


class Eligibility:
    """The gain of a population in time, learnt from pairs; one decay for all its neurons."""

    def __init__(self) -> None:
        self._gates = [Gate(rows=4096) for _ in DECAYS]
        self._levels = torch.zeros(len(DECAYS))

    @property
    def best(self) -> int:
        """Number of the decay that explains most."""
        return max(range(len(DECAYS)), key=lambda i: float(self._gates[i].explained))

    @property
    def decay(self) -> float:
        """λ."""
        return DECAYS[self.best]

    @torch.no_grad()
    def update_(self, pairs: Tensor) -> None:
        """Learn from currents and spikes in all passes, (2, 1 + K, R, T, *out)."""
        current, spikes = pairs.flatten(4)
        k = len(current) - 1
        self._levels = self._levels.to(pairs, copy=True)  # a saved state stays as it was
        for i, decay in enumerate(DECAYS):
            v = self._potential(current[0], spikes[0], i)
            fired = spikes[0].sum()
            level = (v * spikes[0]).sum() / fired.clamp_min(1)
            rate = torch.where(fired > 0, 0.1 if self._gates[i].known else 1.0, 0.0)
            self._levels[i] = self._levels[i].lerp(level, rate)
            shift = trace((current[1:] - current[0]).flatten(0, 1), decay)
            change = (spikes[1:] - spikes[0]).flatten(0, 1)
            v = v.repeat(k, 1, 1)
            self._gates[i].update_(v.flatten(0, 1), shift.flatten(0, 1), change.flatten(0, 1))

    def __call__(self, steps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gains (B, T, *out) and traces of the inputs (B, T, *in).

        Args:
            steps: currents and spikes, (2, B, T, *out).
            x: inputs of a node that feeds the population, (B, T, *in).
        """
        best = self.best
        v = self._potential(steps[0], steps[1], best)
        return self._gates[best](v), trace(x, DECAYS[best])

    def _potential(self, current: Tensor, spikes: Tensor, i: int) -> Tensor:
        before = torch.cat([torch.zeros_like(spikes[:, :1]), spikes[:, :-1]], 1)
        return trace(current - self._levels[i].to(current) * before, DECAYS[i])

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        gates = {str(i): gate.state() for i, gate in enumerate(self._gates)}
        return nested(gates) | {"levels": self._levels}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._levels = state["levels"]
        for i, part in unnested({k: v for k, v in state.items() if k != "levels"}).items():
            self._gates[int(i)].restore(part)
