"""An array of pulsed devices: what differs between them, what they hold, and their pulses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.noise import Stream, generator
from noisynets.systems.devices import LazyBuffers
from noisynets.systems.pulses.device import Device, PulsedDevice

MOST = 100_000
"""Pulses that a device can be given at once."""


class Array(LazyBuffers):
    """Devices that hold the weights of a layer, in units of the device; abstract.

    The spreads are drawn from the device seed, on the CPU, when the array gets its shape; the noise
    of pulses and of writing comes from a stream of its own. Both are saved with the array, so that
    it continues with the same bits.

    Args:
        device: what the devices are.
        device_seed: of the spreads.
        seed: of the noise.
        purpose: of the array in its layer; arrays of different purposes are independent.

    Attributes:
        read: weights with the noise of their last writing, (*weight); None before `make_`.
        pulses: that every device has been given, int64.
    """

    read: Tensor
    pulses: Tensor

    def __init__(
        self, device: Device, device_seed: int, seed: int, purpose: str = "pulses"
    ) -> None:
        super().__init__()
        self.device, self._device_seed, self._purpose = device, device_seed, purpose
        self.stream = Stream(seed, purpose)

    def get_extra_state(self) -> Tensor:
        """Return the state of the stream, for `state_dict()`."""
        return self.stream.state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the stream, for `load_state_dict()`."""
        self.stream.restore(state)

    @property
    def made(self) -> bool:
        """True if the array has its devices."""
        return self._buffers["pulses"] is not None

    @property
    def worn(self) -> int:
        """Number of devices whose endurance is used up."""
        limit = self.device.endurance
        return 0 if limit is None or not self.made else int((self.pulses >= limit).sum())

    @abstractmethod
    def make_(self, target: Tensor) -> None:
        """Make the devices, unless they are there, and write a target without an error.

        The target is clipped to each device's bounds. What is read has the noise of one writing;
        no pulses are counted.

        Args:
            target: (*weight).
        """

    @abstractmethod
    def pulse_(self, counts: Tensor) -> None:
        """Give every weight its own number of pulses, one after the other.

        Devices whose endurance is used up do not change and count no pulse.

        Args:
            counts: whole numbers, (*weight); negative: pulses down.

        Raises:
            InputError: for numbers that are not finite, or above `MOST`.
        """

    def normals(self, like: Tensor, number: int) -> list[Tensor]:
        """Return numbers of N(0, 1) that are fixed for every device."""
        drawn_by = generator(self._device_seed, f"devices, {self._purpose}")
        return [torch.randn(like.shape, generator=drawn_by).to(like) for _ in range(number)]

    def bursts(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return which devices are pulsed, and how often: the most often first.

        Args:
            counts: of the devices, of the shape of `pulses`.

        Returns:
            Places in the flat array, (n,), and counts, (n,), without devices that are worn out.
        """
        counts = counts.flatten()
        largest = counts.abs().max() if counts.numel() else counts.new_zeros(())
        if not bool(largest <= MOST):  # NaN, too
            raise InputError(
                f"{float(largest):g} pulses at once for one weight: at most {MOST} are possible: "
                "lower the learning rate"
            )
        given = counts.long()
        if self.device.endurance is not None:
            left = (self.device.endurance - self.pulses.flatten()).clamp_min(0)
            given = torch.minimum(torch.maximum(given, -left), left)
        which = given.nonzero().flatten()
        which = which[given[which].abs().argsort(descending=True, stable=True)]
        return which, given[which]

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return repr(self.device.name)


class PulsedArray(Array):
    """Devices that each hold one weight, which rises and falls; see `Array` for the arguments.

    Attributes:
        w: weights, (*weight).
        up: s⁺, down: s⁻, slope_up: k⁺, slope_down: k⁻, low, high: of every device, (*weight).

    >>> array = PulsedArray(PulsedDevice(name="x", step=0.25), 0, 0)
    >>> array.make_(torch.zeros(3))
    >>> array.pulse_(torch.tensor([2, 0, -9]))
    >>> array.read, array.pulses
    (tensor([ 0.5000,  0.0000, -1.0000]), tensor([2, 0, 9]))
    """

    buffer_names = ("w", "read", "up", "down", "slope_up", "slope_down", "low", "high", "pulses")
    device: PulsedDevice
    w: Tensor
    up: Tensor
    down: Tensor
    slope_up: Tensor
    slope_down: Tensor
    low: Tensor
    high: Tensor

    @torch.no_grad()
    def make_(self, target: Tensor) -> None:
        """Make the devices, unless they are there, and write a target: see `Array`."""
        if not self.made:
            self._draw(target)
        self.w = torch.minimum(torch.maximum(target.detach(), self.low), self.high)
        self.read = self._written(self.w)

    @torch.no_grad()
    def pulse_(self, counts: Tensor) -> None:
        """Give every weight its own number of pulses: see `Array`."""
        which, n = self.bursts(counts)
        if not len(which):
            return
        part = _Part(self.device, n > 0, *(getattr(self, b).flatten()[which] for b in _PART))
        after = part.pulsed(self.w.flatten()[which], n.abs(), self.stream)
        self.w = placed(self.w, which, after)
        self.read = placed(self.read, which, self._written(after))
        self.pulses = placed(self.pulses, which, self.pulses.flatten()[which] + n.abs())

    def _written(self, w: Tensor) -> Tensor:
        """Return w with the noise of a writing: w + ν Δw z."""
        noise = self.device.write_noise * self.device.step
        return w.clone() if not noise else w + noise * normal(w, self.stream)

    def _draw(self, like: Tensor) -> None:
        """Draw what differs between the devices, once."""
        d, z = self.device, self.normals(like, 6)
        bias_up, bias_down = min(d.asymmetry, 0.0), -max(d.asymmetry, 0.0)
        gain, skew = 1 + d.step_spread * z[0], d.asymmetry_spread * z[1]
        self.up = (gain + bias_up + skew).abs() * d.step
        self.down = (gain + bias_down - skew).abs() * d.step
        self.high = (d.high * (1 + d.high_spread * z[2])).abs()
        self.low = -(d.low * (1 + d.low_spread * z[3])).abs()
        top, bottom = (self.high, self.low) if d.own_bounds else (d.high, d.low)
        self.slope_up = -(d.slope_up + d.slope_up_spread * z[4]).abs() * self.up / top
        self.slope_down = -(d.slope_down + d.slope_down_spread * z[5]).abs() * self.down / bottom
        self.pulses = torch.zeros(like.shape, dtype=torch.int64, device=like.device)


_PART = ("up", "down", "slope_up", "slope_down", "low", "high")


class _Part:
    """Some devices, each of which gets pulses of one sign.

    Args:
        device: what they are.
        rising: True for pulses up, (n,).
        up: as of `PulsedArray`, (n,), and so on.
    """

    def __init__(self, device: PulsedDevice, rising: Tensor, *values: Tensor) -> None:
        up, down, slope_up, slope_down, self.low, self.high = values
        self.device = device
        self.step = torch.where(rising, up, -down)
        self.slope = torch.where(rising, slope_up, -slope_down)

    def pulsed(self, w: Tensor, n: Tensor, stream: Stream) -> Tensor:
        """Return weights after n pulses each; n falls from place to place."""
        if not self.device.cycle:
            return self._without_noise(w, n)
        for active in active_devices(n):
            now = w[:active]
            w = torch.cat([self._once(now, normal(now, stream)), w[active:]])
        return w

    def _once(self, w: Tensor, z: Tensor) -> Tensor:
        """Return weights after one pulse each, of the first devices."""
        first = slice(len(w))
        step, slope = self.step[first], self.slope[first] * w
        noise = self.device.cycle * z
        moved = (
            (step + slope) * (1 + noise)
            if self.device.multiplicative
            else (step * (1 + noise) + slope)
        )
        return torch.minimum(torch.maximum(w + moved, self.low[first]), self.high[first])

    def _without_noise(self, w: Tensor, n: Tensor) -> Tensor:
        """w_n = w∞ + (w₀ − w∞) (1 + k)^n, w∞ = −s/k; w₀ + n s where k = 0; clipped.

        It is computed as w₀ + (s + k w₀) ((1 + k)^n − 1)/k, which loses no digits for small k.
        """
        flat = self.slope == 0
        slope = torch.where(flat, torch.ones_like(w), self.slope)
        steps = torch.expm1(n * torch.log1p(slope.clamp_min(-1))) / slope
        steps = torch.where(flat, n.to(w), steps)
        found = w + (self.step + self.slope * w) * steps
        return torch.minimum(torch.maximum(found, self.low), self.high)


def active_devices(n: Tensor) -> Sequence[int]:
    """Return how many devices get a first, a second, … pulse; n falls from place to place.

    >>> active_devices(torch.tensor([3, 1, 1]))
    [3, 1, 1]
    """
    most = int(n[0])
    return (len(n) - torch.bincount(n, minlength=most + 1).cumsum(0)[:most]).tolist()


def placed(values: Tensor, which: Tensor, new: Tensor) -> Tensor:
    """Return values with new ones at some places; an earlier `state_dict()` stays as it was.

    Args:
        values: of any shape.
        which: places in the flat values, (n,).
        new: (n,).
    """
    return values.flatten().index_copy(0, which, new).view_as(values)


def normal(like: Tensor, stream: Stream) -> Tensor:
    """Draw from N(0, 1), with shape, dtype and device of `like`."""
    return torch.empty_like(like).normal_(generator=stream.on(like.device))
