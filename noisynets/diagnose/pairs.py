"""Pairs of passes of a run's system with its rule's noise, recorded without any update."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.errors import SystemRefused
from noisynets.core.graph import Graph
from noisynets.core.noise import Injection, generator
from noisynets.core.record import Record
from noisynets.estimators.methods import METHODS
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules.credit.feedback import Feedback, Sent
from noisynets.run.session import Session
from noisynets.run.settings import DTYPES
from noisynets.systems.catalogue import SYSTEMS
from noisynets.tasks.data import Examples

QUIET_SIGMA = 1e-2
"""σ injected into systems that have no noise of their own and whose rule injects none at nodes."""


@contextmanager
def unchanged(session: Session) -> Iterator[None]:
    """Restore on exit everything that a checkpoint contains, also after an error.

    This includes weights, learnt feedback, all random generators and the state of devices.
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

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        """Keep the record and return no credit."""
        self.records = [record]
        return Sent([None] * len(record.calls))


class PairSource:
    """Makes pairs of passes of a run's system, with noise as its rule would use it.

    Args:
        session: session of the run.
        resamples: K.
        seed: seed of the injected noise.

    Attributes:
        sigma: σ of the injected noise; None: nothing is injected, the system's own noise is used.
    """

    def __init__(self, session: Session, resamples: int, seed: int = 1) -> None:
        self._session = session
        self._recorder = PairRecorder()
        self.sigma = probing_sigma(session)
        c = session.config
        noise, per_trial = c.noise or METHODS[c.rule].noise, c.noise_over == "trial"
        injection = None
        if self.sigma is not None:
            injection = Injection(self.sigma, noise, seed, per_trial)
        self._passes = NodePerturbation(
            session.system,
            session.task.measure.loss,
            self._recorder,
            sigma=injection,
            resamples=resamples,
        )

    def __call__(self, x: Tensor, y: Tensor) -> Record | None:
        """Return the record of a pair of passes over a batch.

        Args:
            x: inputs (B, ...), before encoding.
            y: targets (B, ...).

        Returns:
            The record; None if the system does not support the recording, because its output does
            not consist of activities alone or is not a single tensor.
        """
        try:
            self._passes.credit(self._session.encode(x, self._session.encoding), y)
        except SystemRefused:
            return None
        return self._recorder.records[0]


def probing_sigma(session: Session) -> float | None:
    """Return the σ to inject at nodes: the rule's, a small one, or None for a noisy system."""
    c = session.config
    if METHODS[c.rule].perturbs == "nodes":
        return c.injected
    noisy = c.intrinsic_noise or c.device_preset != "none"
    if noisy and c.noise_during != "evaluation":
        return None
    return SYSTEMS[c.system].sigma or QUIET_SIGMA


FEWEST_WINDOWS = 16
"""Windows of a text in a recorded batch, at least."""


@dataclass
class Batches:
    """Random batches of examples, independent of the run's own order.

    Args:
        session: session that determines dtype and device.
        examples: examples from which batches are drawn.
        seed: seed of the draws.
    """

    session: Session
    examples: Examples
    seed: int = 0

    def __post_init__(self) -> None:
        self._generator = generator(self.seed, "batches of a diagnosis")

    def draw_rows(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return so many samples; of a text fewer windows, each of which has many positions."""
        text = self.examples.text is not None
        windows = max(FEWEST_WINDOWS, rows // self.examples.x.shape[1]) if text else rows
        return self.draw(min(rows, windows))

    def draw(self, size: int) -> tuple[Tensor, Tensor]:
        """Return inputs (size, ...), before encoding, and targets of randomly drawn examples."""
        n = len(self.examples)
        index = torch.randperm(n, generator=self._generator)[:size].to(self.examples.y.device)
        return self.examples.batch(index, DTYPES[self.session.config.dtype])
