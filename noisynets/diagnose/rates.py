"""Trial runs: what a few steps at a third, at once and at three times the learning rate lead to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from noisynets.core.losses import losses
from noisynets.core.trial import trial as running
from noisynets.diagnose.listen import Batches
from noisynets.run.session import Session, build
from noisynets.run.settings import Config
from noisynets.tasks.data import Examples

FACTORS = (1 / 3, 1.0, 3.0)
TAIL = 0.25
"""Share of a trial's steps, the last ones, in which its loss is taken,"""
LOOKS, ROWS = 5, 200
"""so often, on so many examples: always the same ones, whatever the batch size."""


@dataclass(frozen=True)
class Trial:
    """A short run.

    Attributes:
        lr: its learning rate, held constant.
        first: loss before it.
        last: mean loss in its last quarter; infinite where it is not a number.
    """

    lr: float
    first: float
    last: float


def trials(
    config: Config, examples: Examples, steps: int, factors: Sequence[float] = FACTORS
) -> list[Trial]:
    """Train from the start on the same batches, at several learning rates; nothing is left behind.

    Args:
        config: resolved.
        examples: to train on.
        steps: of each run.
        factors: on the learning rate.
    """
    assert config.lr is not None, "the settings are not resolved"
    return [
        trial(replace(config, lr=config.lr * factor), examples, steps)
        for factor in (factors if steps else ())
    ]


def trial(config: Config, examples: Examples, steps: int) -> Trial:
    """Train from the start at the config's learning rate."""
    session = build(config)
    batches = Batches(session, examples, seed=2)
    shown = Batches(session, examples, seed=4).draw(ROWS)
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
    """Mean loss over a batch, in the system's own noise, as in training."""
    with running(session.system):
        output = session.system(session.encode(x, session.encoding))
    return losses(session.task.measure.loss, output, y).mean()
