"""Phase-change memory: programming noise, conductance drift and 1/f read noise.

The values are those of aihwkit's `inference/noise/pcm.py`, fitted to a million devices: Joshi et
al., Nature Communications 11 (2020) 2473.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.types import Effect, Weights
from noisynets.systems.checks import not_negative, positive
from noisynets.systems.devices.conductance import (
    DeviceArray,
    from_conductances,
    scale,
    to_conductances,
)
from noisynets.systems.devices.pattern import Pattern

T0 = 20.0
T_READ = 250e-9
G_MAX = 25.0
_SMALLEST = 1e-7


def programming_sigma(r: Tensor) -> Tensor:
    """σ = (0.26348 + 1.965 r − 1.1731 r²)/25 of a written conductance r; both relative to g_max.

    >>> programming_sigma(torch.tensor([0.0, 1.0])) * G_MAX
    tensor([0.2635, 1.0554])
    """
    return (0.26348 + 1.965 * r - 1.1731 * r.square()).clamp_min(0) / G_MAX


def drift_mean(r: Tensor) -> Tensor:
    """µ = clip(−0.0155 ln r + 0.0244, 0.049, 0.1): mean drift exponent of devices at r = g/g_max.

    >>> drift_mean(torch.tensor([0.0, 0.1, 1.0]))
    tensor([0.1000, 0.0601, 0.0490])
    """
    return (-0.0155 * r.clamp_min(_SMALLEST).log() + 0.0244).clamp(0.049, 0.1)


def drift_spread(r: Tensor) -> Tensor:
    """Standard deviation of the drift exponent: s = clip(−0.0125 ln r − 0.0059, 0.008, 0.045).

    >>> drift_spread(torch.tensor([0.0, 0.1, 1.0]))
    tensor([0.0450, 0.0229, 0.0080])
    """
    return (-0.0125 * r.clamp_min(_SMALLEST).log() - 0.0059).clamp(0.008, 0.045)


def read_sigma(r: Tensor, age: Tensor) -> Tensor:
    """σ/g of 1/f read noise: q √ln((t + t_r)/2t_r), q = min(0.0088/r^0.65, 0.2).

    Args:
        r: conductance as written, before drift, relative to g_max.
        age: t, time since writing, in seconds.

    >>> read_sigma(torch.tensor([1.0]), torch.tensor([20.0]))
    tensor([0.0368])
    """
    q = (0.0088 / r.clamp_min(_SMALLEST).pow(0.65)).clamp_max(0.2)
    return q * ((age + T_READ) / (2 * T_READ)).log().sqrt().to(r)


class PCM(Effect):
    """Weights stored in pairs of phase-change memory devices.

    A device is written whenever its target changes: g = max(g_target + σ(r) z, 0). It then drifts:
    g (t/t₀)^−ν, with ν = |µ(r) + s(r) z_ν| and a fixed z_ν per device. Reads have 1/f noise, drawn
    independently in every product (aihwkit draws it once per read-out of the whole chip).

    Args:
        time: age of a device in the forward call in which it is written, in seconds; at least
            t₀ = 20 s. Use `advance_` to let more time pass.
        per_call: time that passes after every forward call, in seconds.
        g_max: conductance of the largest weight, in µS; the programming noise was measured at 25.
        programming: factor on the programming noise; 0: none.
        drift: factor on the drift exponents; 0: none.
        read: factor on the read noise; 0: none.
        device_seed: of the exponents ν; None: drawn from PyTorch's global generator.
        seed: of the programming noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a time before t₀, a g_max that is not positive, or a negative factor.

    >>> PCM(time=5)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: PCM time 5 s is before t0: the drift law begins 20 s after \
writing
    """

    def __init__(
        self,
        time: float = T0,
        *,
        per_call: float = 0.0,
        g_max: float = G_MAX,
        programming: float = 1.0,
        drift: float = 1.0,
        read: float = 1.0,
        device_seed: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not T0 <= time < float("inf"):
            raise InputError(
                f"PCM time {time:g} s is before t0: the drift law begins {T0:g} s after writing"
            )
        positive(g_max=g_max)
        not_negative(per_call=per_call, programming=programming, drift=drift, read=read)
        self.per_call, self.g_max = per_call, g_max
        self.programming, self.drift, self.read = programming, drift, read
        self.array = DeviceArray(time, seed)
        self.pattern = Pattern(device_seed, "drift exponents")

    @torch.no_grad()
    def conductances(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Write conductances and read them back, all relative to g_max, (2, *weight).

        Args:
            target: target conductances.

        Returns:
            Conductances after drift, and the standard deviations of their read noise.
        """
        sigma = self.programming * programming_sigma(target) * (G_MAX / self.g_max)
        g, age = self.array.write(target, sigma)
        exponent = (drift_mean(target) + drift_spread(target) * self.pattern(target)).abs()
        drifted = g * (age / T0).to(g).pow(-self.drift * exponent)
        noise = self.read * drifted * read_sigma(g, age)
        if self.per_call:
            self.array.advance_written_(self.per_call)
        return drifted, noise

    def weights(self, weights: Weights) -> Weights:
        """Return the weights with programming noise, drift and read noise."""
        largest = scale(weights.mean)
        g, noise = self.conductances(to_conductances(weights.mean, largest))
        return from_conductances(weights, g, largest, noise if self.read else None)

    def advance_(self, seconds: float) -> None:
        """Let time pass, in seconds."""
        self.array.advance_(seconds)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"time={self.array.first_age:g}, g_max={self.g_max:g}"


def advance_(system: nn.Module, seconds: float) -> None:
    """Let time pass for every drifting device of a system.

    Args:
        system: any module.
        seconds: at least 0.

    Raises:
        InputError: for a negative time, or a system without PCM devices.
    """
    not_negative(seconds=seconds)
    drifting = [module for module in system.modules() if isinstance(module, PCM)]
    if not drifting:
        raise InputError("this system has no drifting device: only PCM drifts")
    for module in drifting:
        module.advance_(seconds)
