"""What a pulsed device is: the size of a step, its bounds, its spreads and its noise."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

from noisynets.core.errors import InputError
from noisynets.systems.checks import finite, not_negative, positive


@dataclass(frozen=True, kw_only=True)
class Device(ABC):
    """What all pulsed devices have; abstract.

    Attributes:
        name: of the preset.
        summary: one line.
        source: of its parameters.
        step: Δw, mean step, by which optimisers count.
        endurance: pulses after which a device does not change any more; None: no limit.
        energy: of a pulse, in joules; None: no source gives one.
    """

    name: str
    summary: str = ""
    source: str = ""
    step: float
    endurance: int | None = None
    energy: float | None = None

    def __post_init__(self) -> None:
        try:
            self.check()
        except InputError as error:
            raise InputError(f"device {self.name!r}: {error}") from error

    def check(self) -> None:
        """Raise an `InputError` for values that are out of range."""
        positive(step=self.step)
        names = [f.name for f in fields(self) if f.name.endswith("spread")]
        not_negative(**{name: getattr(self, name) for name in names})
        if self.endurance is not None and self.endurance < 1:
            raise InputError(f"endurance {self.endurance} is no pulse at all: None is no limit")
        if self.energy is not None:
            positive(energy=self.energy)

    @property
    @abstractmethod
    def states(self) -> float:
        """Number of steps Δw within the range."""

    @property
    def differs(self) -> bool:
        """True if devices differ from one another."""
        return any(getattr(self, f.name) for f in fields(self) if f.name.endswith("spread"))


@dataclass(frozen=True, kw_only=True)
class PulsedDevice(Device):
    """A device whose weight w changes by pulses; w is in units of the device.

    A pulse up or down changes w by a step that may depend on w:

        up:    w ← w + (s⁺ + k⁺ w) (1 + σ z)      multiplicative noise
        down:  w ← w − (s⁻ + k⁻ w) (1 + σ z)
        up:    w ← w + s⁺ (1 + σ z) + k⁺ w        additive noise; down accordingly

    and w is clipped to its bounds [low, high]. z ~ N(0, 1) is drawn for every pulse. Per device,

        s± = |1 + d z₁ ± (a + d_a z₂)| Δw  (a > 0 shortens the steps down, a < 0 those up)
        high = |w_max (1 + d_h z₃)|, low = −|w_min (1 + d_l z₄)|
        k⁺ = −|γ⁺ + d_γ⁺ z₅| s⁺/w_max,  k⁻ = −|γ⁻ + d_γ⁻ z₆| s⁻/w_min

    where z₁ to z₆ are fixed. With `own_bounds`, k± refers to the device's own bounds in place of
    the mean ones; γ = 1 is then the soft-bounds model, in which the step vanishes at the bound. γ =
    0 is the constant-step model. What is read is w + ν Δw z, with one z for each writing.

    Form and notation follow the simulator of aihwkit 1.2.0 (`rpu_pulsed_device.cpp`,
    `rpu_linearstep_device.cpp`, `rpu_softbounds_reference_device.cpp`).

    Attributes:
        step: Δw, mean step at w = 0.
        low: w_min, below 0.
        high: w_max, above 0.
        step_spread: d, relative to Δw.
        low_spread: d_l, relative to w_min.
        high_spread: d_h, relative to w_max.
        asymmetry: a, relative to Δw.
        asymmetry_spread: d_a, relative to Δw.
        cycle: σ, noise of a step, relative to the step; of additive noise, to s±.
        multiplicative: the noise is multiplicative.
        slope_up: γ⁺, by which steps up shrink from w = 0 to w_max.
        slope_down: γ⁻, by which steps down shrink from w = 0 to w_min.
        slope_up_spread: d_γ⁺.
        slope_down_spread: d_γ⁻.
        own_bounds: the slopes refer to each device's own bounds.
        write_noise: ν, relative to Δw.

    Raises:
        InputError: for a value out of range, a step as large as the range, or steps up and down
            that are nowhere equal within the bounds.

    >>> PulsedDevice(name="x", step=0.1, asymmetry=0.5)
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: device 'x': asymmetry 0.5 leaves no symmetric point within \
-1..1: use less of it, or slopes
    """

    low: float = -1.0
    high: float = 1.0
    step_spread: float = 0.0
    low_spread: float = 0.0
    high_spread: float = 0.0
    asymmetry: float = 0.0
    asymmetry_spread: float = 0.0
    cycle: float = 0.0
    multiplicative: bool = True
    slope_up: float = 0.0
    slope_down: float = 0.0
    slope_up_spread: float = 0.0
    slope_down_spread: float = 0.0
    own_bounds: bool = False
    write_noise: float = 0.0

    def check(self) -> None:
        """Raise an `InputError` for values that are out of range."""
        super().check()
        positive(high=self.high, **{"-low": -self.low})
        finite(asymmetry=self.asymmetry)
        not_negative(cycle=self.cycle, write_noise=self.write_noise)
        not_negative(slope_up=self.slope_up, slope_down=self.slope_down)
        if self.step >= self.high - self.low:
            raise InputError(
                f"a step of {self.step:g} is as large as the range {self.low:g}..{self.high:g}: "
                "use a smaller one"
            )
        for name, slope, bound in (
            ("slope_up", self.slope_up, self.high),
            ("slope_down", self.slope_down, -self.low),
        ):
            if slope * self.step >= bound:
                raise InputError(f"{name} {slope:g}: a pulse would pass the bound: use less of it")
        if math.isnan(self.symmetric_point):
            raise InputError(
                f"asymmetry {self.asymmetry:g} leaves no symmetric point within "
                f"{self.low:g}..{self.high:g}: use less of it, or slopes"
            )

    @property
    def steps(self) -> tuple[float, float]:
        """s⁺ and s⁻ of a device without spread."""
        up, down = 1 + min(self.asymmetry, 0.0), 1 - max(self.asymmetry, 0.0)
        return max(up, 0.0) * self.step, max(down, 0.0) * self.step

    @property
    def slopes(self) -> tuple[float, float]:
        """k⁺ and k⁻ of a device without spread."""
        up, down = self.steps
        return -self.slope_up * up / self.high, -self.slope_down * down / self.low

    @property
    def symmetric_point(self) -> float:
        """The w at which steps up and down are equal, of a device without spread; NaN: none.

        Where they are equal everywhere it is 0.
        """
        (up, down), (slope_up, slope_down) = self.steps, self.slopes
        if up == down:
            return 0.0
        if slope_up == slope_down:
            return math.nan
        point = (up - down) / (slope_down - slope_up)
        return point if self.low < point < self.high else math.nan

    @property
    def states(self) -> float:
        """Number of steps Δw within the range."""
        return (self.high - self.low) / self.step
