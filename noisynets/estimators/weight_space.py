"""Weight-space baselines: perturb all weights at once, and correlate with the batch's loss."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisynets.core.batch import arguments, reference
from noisynets.core.decorrelation import decorrelations
from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.losses import losses
from noisynets.core.noise import Injection, check_sigma
from noisynets.core.notes import Note
from noisynets.core.probe import Rows
from noisynets.core.recorders import wide
from noisynets.core.replayed import Replays
from noisynets.core.trial import trial
from noisynets.core.types import Estimate, Loss, Sampler
from noisynets.estimators.obstacles import LOOKS, Batch, Obstacles


@dataclass(frozen=True)
class Perturbed:
    """The system at θ + s ξ, with ξ per parameter; the system's own tensors are not touched.

    Args:
        system: any module.
        inputs: (B, ...).
        targets: (B, ...).
        loss: one value per row.
        replays: gives all passes the same random masks.
    """

    system: nn.Module
    inputs: Any
    targets: Any
    batch: int
    loss: Loss
    replays: Replays

    def __call__(self, xi: dict[str, Tensor], scale: float) -> tuple[Any, Tensor]:
        """Return outputs (B, ...) and losses (B,)."""
        theta = dict(self.system.named_parameters())
        moved = {name: theta[name] + scale * x for name, x in xi.items()}
        with trial(self.system), self.replays.one():
            outputs = functional_call(self.system, moved, *arguments(self.inputs))
        return outputs, losses(self.loss, outputs, self.targets, self.batch)


class WeightSpace:
    """What the two estimators share: drawing ξ, and accumulating δL ξ.

    Attributes:
        noun: what it is, in messages.
    """

    noun = "weight perturbation"

    default_noise = "gaussian"
    purpose = "noise in the weights"

    def __init__(
        self,
        system: nn.Module,
        loss: Loss,
        *,
        sigma: float = 1e-4,
        resamples: int = 1,
        noise: str | Sampler | None = None,
        seed: int = 0,
    ) -> None:
        if resamples < 1:
            raise InputError(f"resamples {resamples} must be at least 1")
        if decorrelations(system):
            raise SystemRefused("weight perturbation does not teach decorrelated layers their R")
        check_sigma(sigma, next(system.parameters()).dtype)
        self.system = system
        self.loss = loss
        self.resamples = resamples
        self.injection = Injection(sigma, noise or self.default_noise, seed, purpose=self.purpose)
        self._obstacles = Obstacles(system)
        self._rows = Rows()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return tuple(self._obstacles.notes)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the stream of injected noise, and the number of steps."""
        return {"stream": self.injection.stream.state(), "looks": self._obstacles.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.injection.stream.restore(state["stream"])
        self._obstacles.restore(state.get("looks"))

    def __call__(self, inputs: Any, targets: Any, names: Collection[str] | None = None) -> Estimate:
        """Accumulate in `.grad`."""
        raise NotImplementedError

    def _draw(self, names: Collection[str] | None) -> dict[str, Tensor]:
        """Draw ξ of the trained parameters, or of those that are named."""
        trained = {n: p for n, p in self.system.named_parameters() if p.requires_grad}
        if names is not None:
            trained = {name: trained[name] for name in names}
        return {name: self.injection(p.shape, like=p) for name, p in trained.items()}

    def _look(self, inputs: Any, outputs: Any, one: Tensor, other: Tensor) -> None:
        """Look at losses (B,) of two passes for what would keep the estimator from learning."""
        self._obstacles.steps += 1
        if self._obstacles.steps in LOOKS:
            loss, sigma = torch.stack([one, other]), self.injection.sigma
            found = Batch(inputs, len(one), outputs, loss, sigma, reads_dloss=True)
            self._obstacles.look(found)

    def _accumulate_(self, xi: dict[str, Tensor], factor: Tensor) -> None:
        theta = dict(self.system.named_parameters())
        for name, x in xi.items():
            gradient = x * (factor / (self.resamples * self.injection.sigma**2))
            grad = theta[name].grad
            theta[name].grad = gradient if grad is None else grad.add_(gradient)


class WeightPerturbation(WeightSpace):
    """One-sided: ∂L/∂θ ≈ (L(θ + ξ) − L(θ)) ξ / σ², with L the mean over the batch.

    Args:
        system: any module.
        loss: one value per row or position.
        sigma: standard deviation of ξ, in units of the weights.
        resamples: K, averaged; 1 + K passes.
        noise: distribution of ξ.
        seed: of ξ.
    """

    @torch.no_grad()
    def __call__(self, inputs: Any, targets: Any, names: Collection[str] | None = None) -> Estimate:
        """Accumulate in `.grad`; inputs (B, ...), targets (B, ...), or trees.

        Only parameters of these `names`, their paths, are shifted; None: all that are trained.
        """
        inputs, targets, batch = self._rows(inputs, targets)
        at = Perturbed(self.system, inputs, targets, batch, self.loss, Replays(self.system))
        outputs, loss = at({}, 0)
        for _ in range(self.resamples):
            xi = self._draw(names)
            moved = at(xi, 1)[1]
            self._accumulate_(xi, wide(moved).mean() - wide(loss).mean())
        self._look(inputs, outputs, loss, moved)
        return Estimate(loss, reference(outputs, batch, 1), (1 + self.resamples) * batch)


class SPSA(WeightSpace):
    """Simultaneous perturbation: ∂L/∂θ ≈ (L(θ + σΔ) − L(θ − σΔ)) / 2σ Δ, with Δ = ±1.

    Args:
        system: any module.
        loss: one value per row or position.
        sigma: length of the step per weight, in units of the weights.
        resamples: K, averaged; 2K passes.
        noise: distribution of Δ.
        seed: of Δ.

    Source: Spall, IEEE Transactions on Automatic Control 37 (1992) 332.
    """

    noun = "SPSA"
    default_noise = "rademacher"
    purpose = "signs of the weights' shifts"

    @torch.no_grad()
    def __call__(self, inputs: Any, targets: Any, names: Collection[str] | None = None) -> Estimate:
        """Accumulate in `.grad`; inputs (B, ...), targets (B, ...), or trees.

        Only parameters of these `names`, their paths, are shifted; None: all that are trained.
        """
        inputs, targets, batch = self._rows(inputs, targets)
        at = Perturbed(self.system, inputs, targets, batch, self.loss, Replays(self.system))
        for _ in range(self.resamples):
            xi = self._draw(names)
            outputs, up = at(xi, 1)
            _, down = at(xi, -1)
            self._accumulate_(xi, (wide(up).mean() - wide(down).mean()) / 2)
        self._look(inputs, outputs, up, down)
        return Estimate((up + down) / 2, reference(outputs, batch, 1), 2 * self.resamples * batch)
