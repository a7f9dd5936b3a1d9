"""The optimisers that `--update` can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from noisynets.core.registry import Registry
from noisynets.systems.pulses.accumulating import MixedPrecisionSGD, ThresholdSGD
from noisynets.systems.pulses.optimiser import PulseOptimiser
from noisynets.systems.pulses.sgd import PulsedSGD
from noisynets.systems.pulses.transfer import AGAD, ChoppedTTv2, TikiTaka, TTv2


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
        Update(
            "tiki-taka",
            "gradients are accumulated on second devices, which are transferred by columns",
            lambda system, rates: TikiTaka(system, rates.lr),
            lr=0.3,
        ),
        Update(
            "ttv2",
            "tiki-taka, with a digital buffer between the devices",
            lambda system, rates: TTv2(system, rates.lr),
            lr=0.3,
        ),
        Update(
            "c-ttv2",
            "ttv2, with signs that alternate on the second devices",
            lambda system, rates: ChoppedTTv2(system, rates.lr),
            lr=0.3,
        ),
        Update(
            "agad",
            "c-ttv2, less what the second devices held before their signs changed",
            lambda system, rates: AGAD(system, rates.lr),
            lr=0.3,
        ),
    ),
)
