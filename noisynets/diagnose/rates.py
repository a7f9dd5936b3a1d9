"""Short runs at a third of, at, and at three times the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noisynets.core.losses import losses
from noisynets.core.trial import trial as running
from noisynets.diagnose.pairs import Batches
from noisynets.run.session import Session, build
from noisynets.run.settings import Config
from noisynets.tasks.data import Examples

FACTORS = (1 / 3, 1.0, 3.0)
TAIL = 0.25
"""Fraction of a run's steps, at its end, in which its final loss is measured."""
LOOKS, ROWS = 5, 200
"""Number of these measurements, and number of examples in each, which are always the same ones."""


@dataclass(frozen=True)
class Trial:
    """A short run.

    Attributes:
        lr: learning rate, constant over the run.
        first: loss before the run.
        last: mean loss in the last quarter of the run; infinite if it is not finite.
    """

    lr: float
    first: float
    last: float


def trials(
    config: Config, examples: Examples, steps: int, factors: Sequence[float] = FACTORS
) -> list[Trial]:
    """Train new sessions on the same batches at several learning rates.

    Args:
        config: resolved settings.
        examples: training examples.
        steps: length of each run; 0: no runs.
        factors: factors by which the learning rate is multiplied.
    """
    assert config.lr is not None, "the settings are not resolved"
    return [
        trial(replace(config, lr=config.lr * factor), examples, steps)
        for factor in (factors if steps else ())
    ]


def trial(config: Config, examples: Examples, steps: int) -> Trial:
    """Train a new session at the learning rate of the settings for some steps."""
    session = build(config)
    batches = Batches(session, examples, seed=2)
    shown = Batches(session, examples, seed=4).draw_rows(ROWS)
    first = loss_on(session, *shown)
    looks = {math.ceil(steps * (1 - TAIL * i / LOOKS)) for i in range(LOOKS)}
    found = []
    for step in range(1, steps + 1):
        session.step_(*batches.draw(config.batch_size), 0.0)
        if step in looks:
            found.append(loss_on(session, *shown))
    last = float(torch.stack(found).double().mean())
    last = last if math.isfinite(last) else math.inf
    return Trial(session.config.lr or 0.0, float(first), last)


@torch.no_grad()
def loss_on(session: Session, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean loss over a batch, with the system's own noise as in training."""
    with running(session.system):
        output = session.system(session.encode(x, session.encoding))
    return losses(session.task.measure.loss, output, y).mean()
