"""What a system is made of: an architecture, and a family of units and noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from noisynets.systems.models import Unit
from noisynets.systems.settings import NetworkSettings


@dataclass(frozen=True)
class Architecture:
    """How layers are arranged.

    Attributes:
        name: as on the command line.
        summary: one line.
        build: (input_shape, outputs, settings, unit=…) → the module.
        hidden: widths where none are given.
        spiking: widths of spiking systems; None: it takes no neurons as units.
        of_spikes: the same for spikes, where it differs; None: `build`.
        intrinsic_noise: σ, in place of the families' own, where these have noise; None: theirs.
        acts: for environments alone.
        counterpart: name of the architecture to use on tasks of examples, of one that acts.
        basic: the plain perceptron: takes the families' widths, may be recurrent, and is not named
            where neurons are.
        unit: a key of `UNITS`, or a maker of units: its own, where a family has none.
        unit_settings: names of the settings that these use.
        settings: names of the settings that it uses itself, and not every system.
        text: its inputs are the symbols of a text, (B, T), and it gives scores of each next one.
    """

    name: str
    summary: str
    build: Callable[..., nn.Sequential]
    hidden: tuple[int, ...]
    spiking: tuple[int, ...] | None
    of_spikes: Callable[..., nn.Sequential] | None = None
    intrinsic_noise: float | None = None
    acts: bool = False
    counterpart: str | None = None
    basic: bool = False
    unit: str | Unit = "leaky"
    unit_settings: tuple[str, ...] = ("slope",)
    settings: tuple[str, ...] = ()
    text: bool = False


@dataclass(frozen=True)
class Family:
    """What the layers of an architecture are followed by, and which noise they have.

    Attributes:
        name: before that of the architecture; '' for plain ones.
        summary: one line.
        unit: a key of `UNITS`, or a maker of units: (settings, seed) → module; None: the
            architecture's own.
        intrinsic_noise: σ of its own noise where none is given.
        device_preset: device where none is given; None: none.
        settings: names of the settings that its units use, and not every system.
        hidden: widths of perceptrons, where they differ from the architecture's.
        recurrent: units lead back to their layers.
        spiking: its units are neurons, which take their inputs step by step.
        noiseless: name of the family that is the same without noise; None: there is none.
    """

    name: str
    summary: str
    unit: str | Unit | None = None
    intrinsic_noise: float = 0.0
    device_preset: str | None = None
    settings: tuple[str, ...] = ()
    hidden: tuple[int, ...] | None = None
    recurrent: bool = False
    spiking: bool = False
    noiseless: str | None = None


@dataclass(frozen=True)
class System:
    """A system on the command line.

    Attributes:
        name: as on the command line.
        summary: one line.
        build: (input_shape, outputs, settings) → the module.
        hidden: widths where none are given.
        intrinsic_noise: σ of its own noise where none is given.
        device_preset: device where none is given; None: none.
        settings: names of the settings that its units use, and not every system.
        spiking: takes its inputs step by step, (B, T, *in).
        sigma: of what is injected into it where it has no noise of its own; None: the rule's.
        boxed: a black box, which reports what it measured; torch computes nothing in it.
        acts: for environments alone.
        noiseless: name of the system that is the same without noise; None: there is none.
        counterpart: name of the system for tasks of examples, of one that acts.
        text: its inputs are the symbols of a text, (B, T), and it gives scores of each next one.
    """

    name: str
    summary: str
    build: Callable[[Sequence[int], int, NetworkSettings], nn.Module]
    hidden: tuple[int, ...]
    intrinsic_noise: float = 0.0
    device_preset: str | None = None
    settings: tuple[str, ...] = ()
    spiking: bool = False
    sigma: float | None = None
    boxed: bool = False
    acts: bool = False
    noiseless: str | None = None
    counterpart: str | None = None
    text: bool = False
