"""Pairs as often as the mirrors lag: a schedule that follows what it measures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noisynets.rules.credit.feedback import Lagging, UpdateSchedule

TOLERANCE = 5e-3
"""Lag of all maps together that a measured schedule allows."""
LONGEST = 32
"""Steps from one pair to the next in a measured schedule, at most."""
READ = 4
"""Pairs after which the lag is read; each reading synchronises the device."""


class LagSchedule(UpdateSchedule):
    """When a rule learns from pairs: as often as its maps would otherwise lag behind the weights.

    Weights that change with a constant velocity for n steps leave a squared error of the maps that
    grows as n². From a lag λ measured with pairs in one step of n therefore follows the next
    distance, n √(tolerance/λ), at most twice and at least half of the present one.

    Args:
        tolerance: of the lag of all maps together; see `Maps.lag`.
        longest: distance from one pair to the next, in steps.

    >>> from types import SimpleNamespace
    >>> schedule, distances = LagSchedule(tolerance=0.01), []
    >>> for lag in [0.04, 0.0, 0.0, 0.01]:
    ...     for _ in range(READ):
    ...         schedule.observe(SimpleNamespace(lag=torch.tensor(lag)))
    ...     distances.append(round(schedule.distance, 3))
    >>> distances
    [1.0, 2.0, 4.0, 4.0]
    """

    def __init__(self, tolerance: float = TOLERANCE, longest: int = LONGEST) -> None:
        super().__init__(always=0)
        self.tolerance, self.longest = tolerance, longest
        self.distance, self._next = 1.0, 0
        self._lags: list[Tensor] = []

    @property
    def due(self) -> bool:
        """True if the rule learns in this step."""
        return self.step >= self._next

    def advance(self) -> bool:
        """Go on to the next step; return True if the rule learns in this one."""
        due = super().advance()
        if due:
            self._next = self.step - 1 + round(self.distance)
        return due

    def observe(self, maps: Lagging) -> None:
        """Take notice of the maps that have just learnt; after several pairs, adapt."""
        if (lag := maps.lag) is not None:
            self._lags.append(lag)
        if len(self._lags) < READ:
            return
        mean = float(sum(self._lags)) / READ
        self._lags.clear()
        if math.isfinite(mean):
            grown = self.distance * factor(mean, self.tolerance)
            self.distance = min(max(grown, 1.0), float(self.longest))

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        lags = torch.stack(self._lags) if self._lags else torch.empty(0)
        kept = torch.tensor([self._next]), torch.tensor(self.distance, dtype=torch.float64)
        return super().state() | {"next": kept[0], "distance": kept[1], "lags": lags}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        super().restore(state)
        self._next, self.distance = int(state["next"]), float(state["distance"])
        self._lags = list(state["lags"])


def factor(lag: float, tolerance: float) -> float:
    """Return √(tolerance/lag), at most 2 and at least ½."""
    return math.sqrt(min(max(tolerance / lag, 0.25), 4.0)) if lag > 0 else 2.0
