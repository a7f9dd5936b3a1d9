"""Which array holds devices of which kind."""

from __future__ import annotations

from functools import singledispatch

from noisynets.systems.pulses.array import Array, PulsedArray
from noisynets.systems.pulses.device import Device, PulsedDevice
from noisynets.systems.pulses.pair import OneSidedPair, PairArray


@singledispatch
def array_of(device: Device, device_seed: int, seed: int, purpose: str = "pulses") -> Array:
    """Return an array of devices; the arguments are those of `Array`.

    Raises:
        TypeError: for a kind of device for which none is registered.
    """
    raise TypeError(f"{type(device).__name__}: register an array for it with array_of.register")


@array_of.register
def _(device: PulsedDevice, device_seed: int, seed: int, purpose: str = "pulses") -> Array:
    return PulsedArray(device, device_seed, seed, purpose)


@array_of.register
def _(device: OneSidedPair, device_seed: int, seed: int, purpose: str = "pulses") -> Array:
    return PairArray(device, device_seed, seed, purpose)
