"""Pulsed devices with another number of states, asymmetry or endurance than those of a preset."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from noisynets.core.errors import InputError
from noisynets.systems.pulses.device import Device, PulsedDevice
from noisynets.systems.pulses.pair import OneSidedPair


def varied(
    device: Device,
    *,
    states: float | None = None,
    asymmetry: float | None = None,
    endurance: int | None = None,
) -> Device:
    """Return a device with some properties replaced; None keeps the device's own.

    Args:
        device: where the rest comes from.
        states: number of mean steps Δw within its range.
        asymmetry: a, by which steps up and down differ, relative to Δw.
        endurance: pulses after which a device does not change any more.

    Raises:
        InputError: for a device without such a property, or one that cannot be.

    >>> from noisynets.systems.pulses.presets import PULSED
    >>> varied(PULSED["ideal"], states=50).step, varied(PULSED["ideal"], endurance=9).endurance
    (0.04, 9)
    """
    device = device if states is None else with_states(device, states)
    device = device if asymmetry is None else with_asymmetry(device, asymmetry)
    return device if endurance is None else replace(device, endurance=endurance)


@singledispatch
def with_states(device: Device, states: float) -> Device:
    """Return a device with larger or smaller steps in the same range.

    Noise that is relative to a step stays so; that of writing, and all spreads between devices,
    keep their size in units of the device.

    Args:
        device: where the rest comes from.
        states: number of mean steps within its range.

    Raises:
        InputError: for a kind of device whose steps cannot be set, or fewer than two states.
    """
    raise InputError(f"device {device.name!r}: its number of states cannot be set")


@with_states.register
def _(device: PulsedDevice, states: float) -> Device:
    ratio = _ratio(device, states)
    return replace(device, step=device.step / ratio, write_noise=device.write_noise * ratio)


@with_states.register
def _(device: OneSidedPair, states: float) -> Device:
    ratio = _ratio(device, states)
    return replace(
        device,
        step=device.step / ratio,
        gain=device.gain / ratio,
        cycle_add=device.cycle_add / ratio,
        cycle_slope=device.cycle_slope / ratio,
    )


@singledispatch
def with_asymmetry(device: Device, asymmetry: float) -> Device:
    """Return a device with another asymmetry a.

    Args:
        device: where the rest comes from.
        asymmetry: a, relative to Δw; above 0 steps down are shorter, below 0 those up.

    Raises:
        InputError: for a kind of device that has none, or one without a symmetric point.
    """
    raise InputError(
        f"device {device.name!r}: has no asymmetry: its steps up and down are made by other devices"
    )


@with_asymmetry.register
def _(device: PulsedDevice, asymmetry: float) -> Device:
    return replace(device, asymmetry=asymmetry)


def _ratio(device: Device, states: float) -> float:
    if not states >= 2:
        raise InputError(f"device {device.name!r}: {states:g} states: at least 2 are needed")
    return states / device.states
