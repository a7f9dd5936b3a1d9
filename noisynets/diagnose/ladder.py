"""Choice of σ: loss differences over a range of σ, and how far they are from linear in the noise.

Along the noise z the loss is L(σz) = L + σ d + σ² c + …. From passes with +σz and −σz follow its
odd part ½(L₊ − L₋) = σ d + O(σ³), the signal of the rules, and its even part
½(L₊ + L₋) − L = σ² c + O(σ⁴). Rounding and the system's own noise contribute equally to both
parts at every σ. Therefore

    distortion(σ) = rms even / rms odd

falls as 1/σ where rounding dominates and rises as σ where curvature dominates. Between these lies
a wide optimum, in which loss differences are almost linear in the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from noisynets.core.noise import SAMPLERS, Injection
from noisynets.core.record import Needs, Record
from noisynets.core.replayed import Replays
from noisynets.core.seeds import salted
from noisynets.core.types import Sampler
from noisynets.diagnose.pairs import Batches, unchanged
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.weight_space import Perturbed
from noisynets.rules import Rule
from noisynets.run.session import Session, build
from noisynets.run.settings import DTYPES, Config
from noisynets.tasks.data import Examples

RUNGS = tuple(10 ** (i / 2) for i in range(-12, 1))
"""Values of σ, 1e-6 to 1, in units of the activities, or of the weights if these are perturbed."""
BATCHES, ROWS = 4, 100
"""Number of batches, and their size."""
FLAT = 1.3
"""Ratio to the lowest distortion up to which a σ belongs to the optimum."""
TOLERABLE = 0.1
"""Distortion up to which a σ belongs to the optimum in any case: one hundredth of the power of a
loss difference, which is negligible beside the noise of the other nodes."""


@dataclass(frozen=True)
class Rung:
    """Loss differences at one σ.

    Attributes:
        sigma: σ.
        odd: root mean square over samples of ½(L₊ − L₋): slope and rounding.
        even: root mean square over samples of ½(L₊ + L₋) − L: curvature and rounding.
        excess: mean of ½(L₊ + L₋) − L: the increase of the loss by the noise.
    """

    sigma: float
    odd: float
    even: float
    excess: float

    @property
    def distortion(self) -> float:
        """even/odd; 1 if the odd part is zero."""
        return self.even / self.odd if self.odd > 0 else 1.0


def ladder(
    session: Session, examples: Examples, sigmas: Sequence[float] = RUNGS, seed: int = 0
) -> list[Rung]:
    """Measure loss differences at every σ that the dtype can resolve, with the same z for all.

    Costs 3 passes of 400 samples for each σ. The session's state is restored afterwards.

    Args:
        session: session of a run; its nodes or its weights are perturbed, as by its rule.
        examples: training examples, from which the batches are drawn.
        sigmas: values of σ, in ascending order.
        seed: seed of the batches and of z.

    Returns:
        One rung for each σ.
    """
    least = 8 * torch.finfo(DTYPES[session.config.dtype]).eps
    c = session.config
    sampler = SAMPLERS[c.noise or METHODS[c.rule].noise]
    weights = METHODS[c.rule].perturbs == "weights"
    sides: Callable[..., tuple[Tensor, Tensor]] = _of_weights if weights else _of_nodes
    found = []
    for sigma in (s for s in sigmas if s >= least):
        parts = []
        batches = Batches(session, examples, seed)
        with unchanged(session):
            for i in range(BATCHES):
                x, y = batches.draw_rows(ROWS)
                x = session.encode(x, session.encoding)
                up, down = sides(session, x, y, sigma, sampler, salted(seed, f"batch {i}"))
                parts.append(torch.stack([(up - down) / 2, (up + down) / 2]).double())
        odd, even = torch.cat(parts, 1)
        rms = torch.stack([odd, even]).square().mean(1).sqrt()
        found.append(Rung(sigma, float(rms[0]), float(rms[1]), excess=float(even.mean())))
    return found


class DifferenceRecorder(Rule):
    """A rule that keeps the loss differences of the last pair, and gives no credit."""

    def __init__(self) -> None:
        self.dloss = torch.empty(0)

    def needs(self, system: nn.Module) -> Needs:
        """Return what the rule needs: injected noise."""
        return Needs(injection=True)

    def __call__(self, record: Record) -> list[Tensor | None]:
        """Return no credit; keep δL, (K, B)."""
        self.dloss = record.dloss * record.dloss.shape[1]
        return [None] * len(record.calls)


def _of_nodes(
    session: Session, x: Tensor, y: Tensor, sigma: float, sampler: Sampler, seed: int
) -> tuple[Tensor, Tensor]:
    """Return L₊ − L and L₋ − L, each (B,), with noise at the nodes."""
    recorder = DifferenceRecorder()

    def both(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        z = sampler((1, *shape[1:]), like, generator)
        return torch.cat([z, -z])

    passes = NodePerturbation(
        session.system,
        session.task.measure.loss,
        recorder,
        sigma=sigma,
        resamples=2,
        noise=both,
        seed=seed,
    )
    passes.credit(x, y)
    return recorder.dloss[0], recorder.dloss[1]


@torch.no_grad()
def _of_weights(
    session: Session, x: Tensor, y: Tensor, sigma: float, sampler: Sampler, seed: int
) -> tuple[Tensor, Tensor]:
    """Return L₊ − L and L₋ − L, each (B,), with noise in the weights."""
    at = Perturbed(session.system, x, y, len(x), session.task.measure.loss, Replays(session.system))
    injection = Injection(sigma, sampler, seed)
    trained = {n: p for n, p in session.system.named_parameters() if p.requires_grad}
    xi = {name: injection(p.shape, like=p) for name, p in trained.items()}
    loss = at({}, 0)[1]
    return at(xi, 1)[1] - loss, at(xi, -1)[1] - loss


def best(rungs: Sequence[Rung]) -> float:
    """Return the geometric mean of the ends of the range of σ with low distortion.

    The search starts at the largest σ. With discontinuous units there can be a second range at
    such small σ that no unit changes its output; the loss is smooth there, but only in the noise of
    the output layer, and the other layers would not learn.

    Args:
        rungs: in ascending order of σ.

    >>> u = [Rung(s, odd=s, even=3e-7 + s * s, excess=0.0) for s in RUNGS]  # flat from 3e-6 to 0.03
    >>> best(u)
    0.00032
    """
    last = least = len(rungs) - 1
    while last >= 0 and rungs[last].distortion <= _limit(rungs[least]):
        least = last if rungs[last].distortion < rungs[least].distortion else least
        last -= 1
    flat = [r.sigma for r in rungs[last + 1 :] if r.distortion <= _limit(rungs[least])]
    return float(f"{(flat[0] * flat[-1]) ** 0.5:.1e}")


def _limit(least: Rung) -> float:
    """Return the largest distortion inside the optimum around the best rung."""
    return max(FLAT * least.distortion, TOLERABLE)


def settled(config: Config, examples: Examples) -> Config:
    """Return the settings with σ 'auto' replaced by the best σ before training.

    Args:
        config: resolved settings; returned unchanged if σ is not 'auto'.
        examples: training examples.
    """
    if config.sigma != "auto":
        return config
    # σ is set to an arbitrary number: the session is only used for its system and data
    start = build(replace(config, sigma=1.0))
    return replace(config, sigma=best(ladder(start, examples)))
