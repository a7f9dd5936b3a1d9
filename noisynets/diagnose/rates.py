"""Trial runs: what a few steps at a third, at once and at three times the learning rate lead to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from noisynets.config import Config
from noisynets.data import Examples
from noisynets.diagnose.listen import Batches
from noisynets.session import build

FACTORS = (1 / 3, 1.0, 3.0)
TAIL = 0.25
"""Share of a trial's steps, the last ones, whose loss counts."""


@dataclass(frozen=True)
class Trial:
    """A short run.

    Attributes:
        lr: its learning rate, held constant.
        first: loss of the first batch.
        last: mean loss of the last quarter of the batches; infinite where it is not a number.
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
    losses = []
    for _ in range(steps):
        losses.append(session.step_(*batches.draw(config.batch_size), 0.0).loss.mean())
    found = torch.stack(losses).double()
    last = float(found[-math.ceil(TAIL * steps) :].mean())
    return Trial(
        session.config.lr or 0.0, float(found[0]), last if math.isfinite(last) else math.inf
    )
