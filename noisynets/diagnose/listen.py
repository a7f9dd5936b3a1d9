"""Listening to a system: what pairs of passes show, whatever its rule makes of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.core.errors import SystemRefused
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules.credit import Pair
from noisynets.run.session import Session
from noisynets.run.settings import DTYPES
from noisynets.systems.catalogue import SYSTEMS
from noisynets.tasks.data import Examples

QUIET_SIGMA = 1e-2
"""What is injected to listen to a system that neither has noise nor gets any from its rule."""


@contextmanager
def unchanged(session: Session) -> Iterator[None]:
    """Put everything that a run saves back to what it was, whatever happens in between.

    Weights, what feedback has learnt, all streams of noise and the state of devices are in it.
    """
    kept = copy.deepcopy(session.state())
    try:
        yield
    finally:
        session.restore_(kept)
        session.optimiser.zero_grad()


@dataclass
class Ear:
    """A feedback that hears what pairs show, and gives no credit."""

    heard: list[Pair] = field(default_factory=list)

    def __call__(self, pair: Pair) -> list[Tensor | None]:
        """Keep the pair."""
        self.heard = [pair]
        return [None] * len(pair.reports)

    def state(self) -> dict[str, Tensor]:
        """Return nothing: nothing is learnt."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""


class Listener:
    """Makes passes as the run's rule would make them, and returns what they showed.

    Args:
        session: whose system is listened to.
        resamples: K.
        seed: of what is injected.

    Attributes:
        sigma: of what is injected; None: the noise is the system's own.
    """

    def __init__(self, session: Session, resamples: int, seed: int = 1) -> None:
        self._session = session
        self._ear = Ear()
        self.sigma = listening_sigma(session)
        c = session.config
        self._passes = NodePerturbation(
            session.system,
            session.task.measure.loss,
            self._ear,
            sigma=self.sigma,
            resamples=resamples,
            noise=c.noise or METHODS[c.rule].noise,
            seed=seed,
            noise_over=c.noise_over if self.sigma is not None else "step",
        )

    def __call__(self, x: Tensor, y: Tensor) -> Pair | None:
        """Return what passes over a batch showed; None where the system cannot be listened to.

        So it is where the output is not made of activities alone, or is no single tensor.
        """
        try:
            self._passes.credit(self._session.encode(x, self._session.encoding), y)
        except SystemRefused:
            return None
        return self._ear.heard[0]


def listening_sigma(session: Session) -> float | None:
    """What to inject while listening: the rule's own σ at the nodes, or next to nothing."""
    c = session.config
    if METHODS[c.rule].perturbs == "nodes":
        return c.injected
    noisy = c.intrinsic_noise or c.device_preset != "none"
    if noisy and c.noise_during != "evaluation":
        return None
    return SYSTEMS[c.system].sigma or QUIET_SIGMA


@dataclass
class Batches:
    """Training batches, in a random order of its own.

    Args:
        session: gives dtype and device.
        examples: to draw from.
        seed: of the order.
    """

    session: Session
    examples: Examples
    seed: int = 0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Return another batch, as it is before any encoding."""
        n = len(self.examples)
        index = torch.randperm(n, generator=self._generator)[:size].to(self.examples.y.device)
        return self.examples.batch(index, DTYPES[self.session.config.dtype])
