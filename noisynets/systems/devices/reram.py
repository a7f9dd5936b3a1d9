"""Resistive memory: the error of a conductance 1 second, 1 day or 2 days after writing.

The values are those of aihwkit's `inference/noise/reram.py`, fitted to Wan et al., Nature 608
(2022) 504.
"""

from __future__ import annotations

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import not_negative, positive
from noisynets.systems.devices.conductance import (
    DeviceArray,
    from_conductances,
    scale,
    to_conductances,
)

G_MAX = 40.0
DAY = 86400.0
POLYNOMIALS: dict[float, tuple[float, ...]] = {
    1.0: (0.348, 16.030, -43.853, 45.393, -16.815),
    DAY: (0.701, 22.086, -50.773, 47.095, -16.458),
    2 * DAY: (0.782, 20.274, -43.507, 37.062, -11.934),
}
"""Time since writing in seconds → coefficients c_0 ... c_4 of `programming_sigma`, in µS."""


def programming_sigma(r: Tensor, time: float = 1.0) -> Tensor:
    """σ = Σ_i c_i r^i / 40 of a conductance r = g/g_max when written; relative to g_max.

    Args:
        r: target conductance, relative to g_max.
        time: since writing, in seconds, a key of `POLYNOMIALS`.

    >>> programming_sigma(torch.tensor([0.0, 0.5, 1.0])) * G_MAX
    tensor([0.3480, 2.0229, 1.1030])
    """
    sigma = torch.zeros_like(r)
    for c in reversed(POLYNOMIALS[time]):
        sigma = sigma * r + c
    return sigma / G_MAX


class ReRAM(Effect):
    """Weights stored in pairs of resistive devices: g = max(g_target + σ(r) z, 0) when written.

    There is no drift law and no measured read noise; aihwkit recommends adding `WeightNoise(0.01)`.

    Args:
        time: since writing, in seconds; measured for 1, 86400 and 172800.
        g_max: conductance of the largest weight, in µS; the noise was measured at 40.
        programming: factor on the noise.
        seed: of the noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for another time, or a g_max that is not positive.

    >>> ReRAM(g_max=-40)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: g_max -40 must be positive and finite
    """

    def __init__(
        self,
        time: float = 1.0,
        *,
        g_max: float = G_MAX,
        programming: float = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if time not in POLYNOMIALS:
            known = ", ".join(f"{t:g}" for t in POLYNOMIALS)
            raise InputError(f"ReRAM time {time:g} s was not measured: use one of {known}")
        positive(g_max=g_max)
        not_negative(programming=programming)
        self.g_max, self.programming = g_max, programming
        self.array = DeviceArray(time, seed)

    def weights(self, weights: Weights) -> Weights:
        """Return the weights with programming noise."""
        largest = scale(weights.mean)
        target = to_conductances(weights.mean, largest)
        sigma = programming_sigma(target, self.array.first_age) * (G_MAX / self.g_max)
        g, _ = self.array.write(target, self.programming * sigma)
        return from_conductances(weights, g, largest)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"time={self.array.first_age:g}, g_max={self.g_max:g}"
