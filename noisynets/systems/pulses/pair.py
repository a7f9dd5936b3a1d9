"""Pairs of devices that can only be pulsed up: phase-change memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.systems.checks import finite, not_negative, positive, probability
from noisynets.systems.pulses.array import Array, active_devices, normal, placed
from noisynets.systems.pulses.device import Device


@dataclass(frozen=True, kw_only=True)
class OneSidedPair(Device):
    """Two devices per weight, w = g⁺ − g⁻, whose conductances g only rise by pulses.

    A pulse up raises g⁺, a pulse down raises g⁻. With z ~ N(0, 1) drawn for every pulse,

        Δ = s (1 + A exp(−2 γ g/g_max)),  g ← g + Δ + σ (Δ + a + b g) z, clipped to [0, g_max].

    s = |1 + d z₁| s₀ and g_max = |1 + d_g z₂| ḡ, with z₁ and z₂ fixed per device. When the larger
    of the two is above `refresh_above` ḡ and the smaller above `refresh_below` ḡ, both are reset
    and their difference is written to one of them, without an error; this counts as one pulse of
    each. Form and notation follow aihwkit 1.2.0 (`rpu_expstep_device.cpp`,
    `rpu_onesided_device.cpp`), which writes the difference back by pulses.

    Attributes:
        gain: s₀, step of a conductance that is large.
        boost: A, by which steps at g = 0 are larger.
        decay: γ.
        top: ḡ, mean largest conductance.
        gain_spread: d.
        top_spread: d_g, relative to ḡ.
        cycle: σ, noise of a step.
        cycle_add: a.
        cycle_slope: b.
        refresh_above: relative to ḡ.
        refresh_below: relative to ḡ.

    Raises:
        InputError: for a value out of range, or a mean step as large as the range.
    """

    gain: float
    boost: float
    decay: float
    top: float = 1.0
    gain_spread: float = 0.0
    top_spread: float = 0.0
    cycle: float = 0.0
    cycle_add: float = 0.0
    cycle_slope: float = 0.0
    refresh_above: float = 0.75
    refresh_below: float = 0.25

    def check(self) -> None:
        """Raise an `InputError` for values that are out of range."""
        super().check()
        positive(gain=self.gain, top=self.top)
        finite(decay=self.decay)
        not_negative(boost=self.boost, cycle=self.cycle)
        not_negative(cycle_add=self.cycle_add, cycle_slope=self.cycle_slope)
        probability(refresh_above=self.refresh_above, refresh_below=self.refresh_below)
        if self.step >= self.top:
            raise InputError(
                f"a step of {self.step:g} is as large as the range 0..{self.top:g}: use a smaller "
                "one"
            )

    @property
    def states(self) -> float:
        """Number of mean steps from −ḡ to ḡ."""
        return 2 * self.top / self.step


class PairArray(Array):
    """Pairs of one-sided devices; see `Array` for the arguments.

    Attributes:
        g: conductances g⁺ and g⁻, (2, *weight).
        gain: s of every device, (2, *weight).
        top: g_max of every device, (2, *weight).
        pulses: of every device, (2, *weight).

    >>> pair = OneSidedPair(name="x", step=0.1, gain=0.1, boost=0, decay=0)
    >>> array = PairArray(pair, 0, 0)
    >>> array.make_(torch.zeros(2))
    >>> array.pulse_(torch.tensor([2, -1]))
    >>> array.read, array.pulses.tolist()
    (tensor([ 0.2000, -0.1000]), [[2, 0], [0, 1]])
    """

    buffer_names = ("g", "read", "gain", "top", "pulses")
    device: OneSidedPair
    g: Tensor
    gain: Tensor
    top: Tensor

    @torch.no_grad()
    def make_(self, target: Tensor) -> None:
        """Make the devices, unless they are there, and write a target: see `Array`."""
        both = torch.stack([target.detach(), -target.detach()]).clamp_min(0)
        if not self.made:
            d, (gain, top) = self.device, self.normals(both, 2)
            self.gain = (1 + d.gain_spread * gain).abs() * d.gain
            self.top = (1 + d.top_spread * top).abs() * d.top
            self.pulses = torch.zeros_like(both, dtype=torch.int64)
        self._hold(torch.minimum(both, self.top))

    @torch.no_grad()
    def pulse_(self, counts: Tensor) -> None:
        """Give every weight its own number of pulses, and refresh pairs: see `Array`."""
        which, n = self.bursts(torch.stack([counts, -counts]).clamp_min(0))
        if not len(which):
            return
        after = self._pulsed(which, n)
        self.pulses = placed(self.pulses, which, self.pulses.flatten()[which] + n)
        self._hold(self._refreshed(placed(self.g, which, after)))

    def _pulsed(self, which: Tensor, n: Tensor) -> Tensor:
        """Return the conductances of some devices after n pulses each; n falls."""
        d = self.device
        g, gain, top = (values.flatten()[which] for values in (self.g, self.gain, self.top))
        for active in active_devices(n):
            now, most = g[:active], top[:active]
            step = gain[:active] * (1 + d.boost * torch.exp(-2 * d.decay * now / most))
            if d.cycle:
                noise = d.cycle * (step + d.cycle_add + d.cycle_slope * now)
                step = step + noise * normal(now, self.stream)
            g = torch.cat([torch.minimum((now + step).clamp_min(0), most), g[active:]])
        return g

    def _refreshed(self, g: Tensor) -> Tensor:
        """Return conductances after pairs near their top were reset, and count that."""
        d = self.device
        full = (g.amax(0) > d.refresh_above * d.top) & (g.amin(0) > d.refresh_below * d.top)
        if d.endurance is not None:
            full &= (self.pulses < d.endurance).all(0)
        self.pulses = self.pulses + full
        difference = g[0] - g[1]
        return torch.where(full, torch.stack([difference, -difference]).clamp_min(0), g)

    def _hold(self, g: Tensor) -> None:
        self.g, self.read = g, g[0] - g[1]
