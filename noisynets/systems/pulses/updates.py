"""The optimisers that `--update` can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from noisynets.core.registry import Registry
from noisynets.systems.pulses.accumulating import MixedPrecisionSGD, ThresholdSGD
from noisynets.systems.pulses.optimiser import PulseOptimiser
from noisynets.systems.pulses.sgd import PulsedSGD


@dataclass(frozen=True, kw_only=True)
class UpdateRates:
    """What an update is given.

    Attributes:
        lr: learning rate.
        threshold: in mean steps, at which accumulated updates are written.
    """

    lr: float
    threshold: float = 1.0


@dataclass(frozen=True)
class Update:
    """An optimiser that writes by pulses.

    Attributes:
        name: as on the command line.
        summary: one line.
        make: (system, rates) → the optimiser.
        lr: learning rate where none is given.
        threshold: `--write-threshold` applies.
    """

    name: str
    summary: str
    make: Callable[[nn.Module, UpdateRates], PulseOptimiser]
    lr: float = 0.1
    threshold: bool = False


UPDATES: Registry[Update] = Registry(
    "update",
    (
        Update(
            "sgd",
            "every step is written at once, as stochastic counts of pulses",
            lambda system, rates: PulsedSGD(system, rates.lr),
        ),
        Update(
            "threshold",
            "updates are accumulated digitally, and written when a threshold is reached",
            lambda system, rates: ThresholdSGD(system, rates.lr, threshold=rates.threshold),
            threshold=True,
        ),
        Update(
            "mixed-precision",
            "updates are accumulated digitally, and whole steps are written",
            lambda system, rates: MixedPrecisionSGD(system, rates.lr),
        ),
    ),
)
