"""Listening to a system: what pairs of passes show, whatever its rule makes of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.errors import SystemRefused
from noisynets.core.graph import Graph
from noisynets.core.noise import Injection
from noisynets.core.record import Record
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules.credit.feedback import Feedback, Sent
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


class PairRecorder(Feedback):
    """A rule that keeps the record of the last pair, and gives no credit."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def _send(self, record: Record, graph: Graph, learns: bool) -> Sent:
        self.records = [record]
        return Sent([None] * len(record.calls))


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
        self._recorder = PairRecorder()
        self.sigma = listening_sigma(session)
        c = session.config
        noise, held = c.noise or METHODS[c.rule].noise, c.noise_over == "trial"
        injection = None if self.sigma is None else Injection(self.sigma, noise, seed, held)
        self._passes = NodePerturbation(
            session.system,
            session.task.measure.loss,
            self._recorder,
            sigma=injection,
            resamples=resamples,
        )

    def __call__(self, x: Tensor, y: Tensor) -> Record | None:
        """Return what passes over a batch showed; None where the system cannot be listened to.

        So it is where the output is not made of activities alone, or is no single tensor.
        """
        try:
            self._passes.credit(self._session.encode(x, self._session.encoding), y)
        except SystemRefused:
            return None
        return self._recorder.records[0]


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
