"""Settings of pulsed devices."""

from __future__ import annotations

from dataclasses import dataclass

from noisynets.core.settings import NOISE, Settings, setting
from noisynets.systems.pulses.device import Device
from noisynets.systems.pulses.presets import PULSED
from noisynets.systems.pulses.varied import varied


@dataclass(frozen=True, kw_only=True)
class PulseSettings(Settings):
    """Settings of the pulsed devices that hold the weights."""

    writes: str | None = setting(
        None,
        lambda: (
            f"Pulsed device that holds the weights of every layer: {', '.join(PULSED)}; --update "
            "says how they are written. Unset: weights are written exactly."
        ),
        group=NOISE,
        kind="pulsed device",
        choices=PULSED,
        common=True,
        since="0.5",
    )
    write_states: int | None = setting(
        None,
        "Number of mean steps within the range of the device of --writes. Unset: its own.",
        metavar="INT",
        group=NOISE,
        at_least=2,
        since="0.6",
    )
    write_asymmetry: float | None = setting(
        None,
        "By how much the steps of the device of --writes are shorter down than up (below 0: up "
        "than down). Unset: its own.",
        unit="mean steps of the device",
        group=NOISE,
        above=-1,
        below=1,
        since="0.6",
    )
    write_endurance: int | None = setting(
        None,
        "Pulses after which a device of --writes does not change any more. Unset: its own limit, "
        "or none.",
        metavar="INT",
        group=NOISE,
        at_least=1,
        since="0.6",
    )

    @property
    def pulsed_device(self) -> Device | None:
        """The device of `writes` as the other settings change it; None: weights are exact.

        Raises:
            InputError: for a change that the device does not allow.
        """
        if self.writes is None:
            return None
        return varied(
            PULSED[self.writes],
            states=self.write_states,
            asymmetry=self.write_asymmetry,
            endurance=self.write_endurance,
        )
