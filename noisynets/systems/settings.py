"""Settings of the reference networks: what they are built of, and their noise."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from noisynets.core.settings import (
    NOISE,
    SPIKING,
    WHAT,
    Settings,
    TrialSettings,
    derived,
    setting,
)
from noisynets.systems.devices import PRESETS
from noisynets.systems.initialisation import INITIALISATIONS
from noisynets.systems.pulses.settings import PulseSettings
from noisynets.systems.spiking import FIRINGS, NEURONS, READOUTS

NO_DEVICE = "none"
"""What `--device-preset` names for no device, also where the system has one by default."""


def devices() -> Collection[str]:
    """Return what `--device-preset` can name."""
    return [*PRESETS, NO_DEVICE]


@dataclass(frozen=True, kw_only=True)
class NeuronSettings(TrialSettings):
    """Settings of spiking networks: trials, neurons and read-outs."""

    steps: int | None = setting(
        None,
        "T, time steps of a trial. Unset: 10; for events in time theirs, or at most 100 bins.",
        group=SPIKING,
        at_least=1,
        at_most=100_000,
        used_by=("spiking systems",),
    )
    neuron: str = setting(
        "leaky",
        lambda: f"Model of the neurons: {', '.join(NEURONS)}.",
        group=SPIKING,
        choices=NEURONS,
    )
    beta: float = setting(
        0.9,
        "Share of a membrane potential that is left after a step.",
        group=SPIKING,
        at_least=0,
        at_most=1,
    )
    threshold: float = setting(1.0, "Potential at which a neuron fires.", group=SPIKING, above=0)
    reset: str | None = setting(
        None,
        "After a spike, subtract the threshold from the potential in the next step, or set it to "
        "zero in the same step, as neurons of NIR are. Unset: subtract; of alpha, zero.",
        group=SPIKING,
        choices=("subtract", "zero"),
        since="0.6",
    )
    firing: str = setting(
        "threshold",
        lambda: f"When neurons fire: {', '.join(FIRINGS)} (noisy threshold, escape rate).",
        group=SPIKING,
        choices=FIRINGS,
    )
    firing_noise: float = setting(
        0.1,
        "Standard deviation of a noisy threshold, or width of an escape rate.",
        unit="units of the potential",
        group=SPIKING,
        above=0,
    )
    membrane_noise: float = setting(
        0.0,
        "Standard deviation of the noise added to the potentials in each step.",
        unit="units of the potential",
        group=SPIKING,
        at_least=0,
    )
    readout: str = setting(
        "membrane",
        lambda: (
            f"Output of the network: {', '.join(READOUTS)} (mean potential of neurons that do not "
            "fire, number of spikes, time of the first spike)."
        ),
        group=SPIKING,
        kind="read-out",
        choices=READOUTS,
    )


@dataclass(frozen=True, kw_only=True)
class BoxSettings(Settings):
    """Settings of boxes in other processes."""

    box_timeout: float | None = setting(
        None,
        "Time in which the process of a box has to answer. Unset: 60; of a run, its own.",
        metavar="SECONDS",
        group=NOISE,
        above=0,
        changeable=True,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(NeuronSettings, BoxSettings, PulseSettings):
    """Settings of a reference network.

    Attributes:
        straight_through: give units without a useful derivative one for backpropagation.
        weight_seed: of the initial weights.
        noise_seed: of the system's own noise, of the units, and of a device's noise in time.
    """

    hidden: tuple[int, ...] | None = setting(
        None,
        "Widths of the hidden layers (channels of convolutional ones). Unset: the system's.",
        metavar="INT",
        group=WHAT,
        at_least=1,
        common=True,
    )
    layers: int = setting(
        2,
        "Blocks of a transformer. 0: it predicts a symbol from the last one alone.",
        metavar="INT",
        group=WHAT,
        at_least=0,
        since="0.5",
    )
    width: int = setting(
        128,
        "Activities of a transformer at each position; four times as many in its perceptrons.",
        metavar="INT",
        group=WHAT,
        at_least=1,
        since="0.5",
    )
    heads: int = setting(
        4,
        "Heads of a transformer's attention; they divide its width.",
        metavar="INT",
        group=WHAT,
        at_least=1,
        since="0.5",
    )
    slope: float = setting(
        0.2, "Slope of the LeakyReLU for negative activities.", group=WHAT, at_least=0
    )
    bits: int = setting(
        4, "Quantised units have 2^bits levels.", group=WHAT, at_least=1, at_most=24
    )
    temperature: float = setting(
        0.2,
        "Temperature of Bernoulli units.",
        unit="units of the activity",
        group=WHAT,
        above=0,
    )
    init: str = setting(
        "he",
        lambda: f"Normal initial weights: {', '.join(INITIALISATIONS)}; biases are zero.",
        group=WHAT,
        kind="initialisation",
        choices=INITIALISATIONS,
    )
    output_scale: float = setting(
        1.0, "Factor on the output layer's initial weights.", group=WHAT, above=0
    )
    freeze_hidden: bool = setting(
        False,
        "Train the output layer alone: the control for what training hidden layers adds.",
        group=WHAT,
    )
    intrinsic_noise: float | None = setting(
        None,
        "Standard deviation of the system's own noise at every node; it can be neither read nor "
        "switched off. Unset: the system's.",
        unit="units of the activities",
        group=NOISE,
        at_least=0,
    )
    device_preset: str | None = setting(
        None,
        lambda: (
            f"Simulated device under every layer: {', '.join(PRESETS)}; or none. Unset: the "
            "system's."
        ),
        group=NOISE,
        choices=devices,
        common=True,
    )
    device_seed: int = setting(
        0,
        "Seed of the simulated chip: of what differs between devices and is fixed when they are "
        "made.",
        group=NOISE,
        at_least=0,
    )
    noise_during: str = setting(
        "both",
        "When the system's own noise and device act: training, evaluation or both.",
        group=NOISE,
        kind="phase of the noise",
        choices=("both", "training", "evaluation"),
    )
    spread: float = setting(
        0.3,
        "Relative spread of a box's weights and gains, and spread of its offsets.",
        group=NOISE,
        at_least=0,
        at_most=10,
    )
    box: str | None = setting(
        None,
        "Command that serves a process-box, as docs/how-to/blackbox.md describes. Unset: a "
        "simulated chip.",
        metavar="COMMAND",
        group=NOISE,
        changeable=True,
    )
    straight_through: bool = derived(False)
    weight_seed: int = derived(0)
    noise_seed: int = derived(0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(self.hidden or ())

    @property
    def own_noise(self) -> float:
        """σ of the system's own noise; 0: none."""
        return self.intrinsic_noise or 0.0

    @property
    def preset(self) -> str | None:
        """Name of the device under every layer; None: none."""
        return None if self.device_preset == NO_DEVICE else self.device_preset
