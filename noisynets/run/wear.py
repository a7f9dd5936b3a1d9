"""Warnings of a run whose devices will wear out, or have worn out."""

from __future__ import annotations

import math

from torch import nn

from noisynets.core.notes import Note, warn
from noisynets.systems.pulses import Wear, wear

SURE = 50
"""Steps from which on the mean number of pulses per step is taken for that of the whole run."""


def warn_of_wear(system: nn.Module, told: dict[str, str], done: int, total: int) -> None:
    """Warn once for every layer that will wear out, and once when the first device has.

    Args:
        system: that is trained.
        told: messages of the run so far, by kind and layer; new ones are added.
        done: steps so far.
        total: steps of the run.
    """
    found = wear(system, done)
    for name, layer in found.items():
        if not layer.worn and _due(layer, done, total):
            _tell(told, f"wear of {name!r}", Note("wear", _ahead(name, layer, total - done)))
    if worn := {name: layer for name, layer in found.items() if layer.worn}:
        _tell(told, "worn devices", Note("worn devices", _behind(worn, done)))


def _due(layer: Wear, done: int, total: int) -> bool:
    """Return True if the run is longer than the devices last.

    At first, pulses per step are known from a few steps alone: then a device has to be near its
    end, so that nothing is said of what the next steps correct.
    """
    ahead = total - done if done >= SURE else 2 * SURE
    return layer.steps_left < min(ahead, total - done)


def _ahead(name: str, layer: Wear, ahead: int) -> str:
    left = math.ceil(layer.steps_left)
    return (
        f"{name!r}: the first device will be worn out, after {layer.endurance:,} pulses, in "
        f"{left:,} of the {ahead:,} steps that are left; it has had {layer.largest:,}: lower --lr, "
        "raise --write-threshold, or choose another --update"
    )


def _behind(worn: dict[str, Wear], done: int) -> str:
    counts = ", ".join(f"{w.worn:,} of {w.devices:,} in {name!r}" for name, w in worn.items())
    return f"after {done:,} steps devices are worn out and do not change any more: {counts}"


def _tell(told: dict[str, str], key: str, note: Note) -> None:
    if key not in told:
        told[key] = note.message
        warn(note)
