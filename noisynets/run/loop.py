"""The loop of epochs and steps, which `train` and `fit` share.

It counts progress, watches the loss, saves, and stops at a signal between two steps. What a step
and the end of an epoch do belongs to the `Job`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from noisynets.core.decorrelation import unstable
from noisynets.core.errors import Diverged
from noisynets.core.types import Estimate
from noisynets.run.session import Progress
from noisynets.run.signals import Deferral

GUARD_STEPS = 50
CHECKPOINT_SECONDS = 60.0


class Job(Protocol):
    """What the loop trains.

    Attributes:
        epochs: in all.
        steps: of an epoch.
    """

    epochs: int
    steps: int

    @property
    def progress(self) -> Progress:
        """What is done; the loop counts on."""

    @property
    def finished(self) -> bool:
        """True if no epoch is left to make."""

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """Return inputs and targets of the present epoch, from the present step on."""

    def step_(self, x: Any, y: Any, done: float) -> Estimate:
        """Update the weights from one batch, after a fraction `done` of the run."""

    def end_epoch_(self) -> None:
        """Evaluate, count the epoch, and save."""

    def check(self, loss: float) -> None:
        """Raise `Diverged` for a mean loss that shows that training has failed."""

    def save(self) -> None:
        """Write a checkpoint."""

    def speed(self, examples: int, seconds: float) -> str:
        """Say how quickly these examples were learned, for the progress bar; '' for nothing."""


class Tally:
    """Sums over the examples seen, kept on the device until they are read.

    Args:
        n: number of values of an example.

    >>> tally = Tally(2)
    >>> tally.add([torch.tensor([1.0, 3.0]), torch.tensor([True, False])])
    >>> tally.means()
    [2.0, 0.5]
    """

    def __init__(self, n: int) -> None:
        self.sums = torch.zeros(n, dtype=torch.float64)
        self.count = 0

    def add(self, values: Sequence[Tensor]) -> None:
        """Count in the values of B examples, each (B,)."""
        self.sums = self.sums.to(values[0].device)
        for i, value in enumerate(values):
            self.sums[i] += value.sum()
        self.count += len(values[0])

    def means(self) -> list[float]:
        """Return the mean values; synchronises the device."""
        found: list[float] = self.sums.tolist()
        return [value / max(self.count, 1) for value in found]


def run_epochs(job: Job, signals: Deferral, progress_bar: bool) -> None:
    """Make all epochs that are left.

    Args:
        job: that is trained.
        signals: held back until a step is whole and saved.
        progress_bar: show one on standard error.

    Raises:
        Diverged: if training has failed; the last good checkpoint stays.
    """
    bar = tqdm(
        total=job.epochs * job.steps,
        initial=job.progress.epoch * job.steps + job.progress.step,
        unit="step",
        disable=not progress_bar,
        dynamic_ncols=True,
        mininterval=0.5,
    )
    with bar:
        while not job.finished:
            _run_epoch(job, bar, signals)
            job.end_epoch_()
            if signals.came:
                signals.deliver()


def _run_epoch(job: Job, bar: Any, signals: Deferral) -> None:
    """Finish the present epoch, from the present step on; at a signal, save and stop."""
    progress, batches = job.progress, job.batches()
    total, guard = job.epochs * job.steps, Tally(1)
    clock = saved = time.perf_counter()
    for x, y in batches:
        done = (progress.epoch * job.steps + progress.step) / total
        estimate = job.step_(x, y, done)
        guard.add([estimate.loss])
        progress.step += 1
        progress.sample_forwards += estimate.sample_forwards
        bar.update()
        first = math.isnan(progress.first_loss)
        if first or progress.step % GUARD_STEPS == 0 or progress.step == job.steps:
            (loss,) = guard.means()
            progress.first_loss = loss if first else progress.first_loss
            job.check(loss)
            now = time.perf_counter()
            where = f"epoch {progress.epoch + 1}/{job.epochs}"
            speed = "" if first else job.speed(guard.count, now - clock)
            bar.set_postfix_str(f"{where}, loss {loss:.4f}{speed}", refresh=False)
            guard = Tally(1)
            progress.seconds, clock = progress.seconds + now - clock, now
            if now - saved > CHECKPOINT_SECONDS:  # at the end, too: evaluation may take long
                job.save()
                saved = now
        if signals.came:
            progress.seconds += time.perf_counter() - clock
            job.save()
            signals.deliver()


def finite(system: nn.Module) -> bool:
    """Return True if no weight is infinite or NaN."""
    return all(bool(p.isfinite().all()) for p in system.parameters())


def check_divergence(
    system: nn.Module, progress: Progress, loss: float, limit: float, lr: str, decor_lr: str
) -> None:
    """Check a mean loss, and the decorrelation of a system.

    Args:
        system: that is trained.
        progress: says where, and with which loss training started.
        loss: of the last steps, or of an evaluation.
        limit: multiple of the first loss that counts as divergence; infinite: none does.
        lr: advice where the loss is too high.
        decor_lr: advice where decorrelation is unstable.

    Raises:
        Diverged: if the loss is not finite or too high, or decorrelation would blow up.
    """
    where = f"diverged in epoch {progress.epoch + 1}, step {progress.step}"
    if layers := unstable(system):
        names = ", ".join(map(repr, layers))
        raise Diverged(f"{where}: decorrelation of {names} would have blown up: {decor_lr}")
    explodes = math.isfinite(limit) and loss > limit * progress.first_loss
    if not math.isfinite(loss) or explodes:
        raise Diverged(
            f"{where}: loss {loss:.4g}, which started at {progress.first_loss:.4g}: {lr}"
        )
