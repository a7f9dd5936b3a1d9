"""Which σ is good: where neither rounding nor curvature spoils what loss differences say.

The loss along the noise z is L(σz) = L + σ d + σ² c + …. With +σz and −σz its odd part is
½(L₊ − L₋) = σ d + O(σ³), what a rule lives on, and its even part ½(L₊ + L₋) − L = σ² c. What
rounding adds to each loss (and what a system's own noise adds) is the same for every σ, in both
parts. So

    distortion(σ) = rms even / rms odd

falls as 1/σ while rounding rules and rises as σ where curvature does. In between lies a wide
optimum: there a loss difference is due to a slope nearly alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from noisynets.core.noise import SAMPLERS, Injection
from noisynets.core.record import Needs, Record
from noisynets.core.types import Sampler
from noisynets.diagnose.listen import Batches, unchanged
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.estimators.weight_space import Perturbed
from noisynets.rules import Rule
from noisynets.run.session import Session, build
from noisynets.run.settings import DTYPES, Config
from noisynets.tasks.data import Examples

RUNGS = tuple(10 ** (i / 2) for i in range(-12, 1))
"""1e-6 to 1, in units of the activities (of the weights, where these are perturbed)."""
BATCHES, ROWS = 4, 100
FLAT = 1.3
"""The optimum counts as flat as far as the distortion is below this multiple of its least,"""
TOLERABLE = 0.1
"""or below this: a hundredth of the power of a loss difference, lost beside other nodes' noise."""


@dataclass(frozen=True)
class Rung:
    """Loss differences at one σ, as root mean squares over samples.

    Attributes:
        sigma: σ.
        odd: of ½(L₊ − L₋): the slope, and the rounding.
        even: of ½(L₊ + L₋) − L: curvature and rounding.
        excess: mean of the even part: what noise adds to the loss.
    """

    sigma: float
    odd: float
    even: float
    excess: float

    @property
    def distortion(self) -> float:
        """even/odd; 1 where nothing came out at all."""
        return self.even / self.odd if self.odd > 0 else 1.0


def ladder(
    session: Session, examples: Examples, sigmas: Sequence[float] = RUNGS, seed: int = 0
) -> list[Rung]:
    """Measure loss differences at every σ that the dtype allows, with the same z.

    The session is left as it was. Cost: 3 passes of 400 samples per σ.

    Args:
        session: perturbed where its rule perturbs: at the nodes, or in the weights.
        examples: of which some are taken.
        sigmas: in rising order.
        seed: of the batches, and of z.
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
                x, y = batches.draw(ROWS)
                x = session.encode(x, session.encoding)
                up, down = sides(session, x, y, sigma, sampler, seed + i)
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
    """L₊ − L and L₋ − L, (B,), with noise at the nodes."""
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
    """The same with noise in the weights."""
    at = Perturbed(session.system, x, y, session.task.measure.loss)
    injection = Injection(sigma, sampler, seed)
    trained = {n: p for n, p in session.system.named_parameters() if p.requires_grad}
    xi = {name: injection(p.shape, like=p) for name, p in trained.items()}
    loss = at({}, 0)[1]
    return at(xi, 1)[1] - loss, at(xi, -1)[1] - loss


def best(rungs: Sequence[Rung]) -> float:
    """Return the middle, in logarithms, of the flat optimum of the distortion.

    It is looked for from the top. Where units are discontinuous, and σ so small that none of them
    changes, only the output's own noise moves the loss: that looks smooth, and teaches nothing.

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
    return max(FLAT * least.distortion, TOLERABLE)


def settled(config: Config, examples: Examples) -> Config:
    """Return settings whose σ is a number: that of a ladder before training, if it is 'auto'.

    Args:
        config: resolved.
        examples: to train on.
    """
    if config.sigma != "auto":
        return config
    # any number will do to build a session of which only the passes are used
    start = build(replace(config, sigma=1.0))
    return replace(config, sigma=best(ladder(start, examples)))
