"""Pulsed devices by name, with the sources of their parameters."""

from __future__ import annotations

from noisynets.core.registry import Registry
from noisynets.systems.pulses.device import Device, PulsedDevice
from noisynets.systems.pulses.pair import OneSidedPair

AIHWKIT = "aihwkit 1.2.0, simulator/presets/devices.py"

PULSED: Registry[Device] = Registry(
    "pulsed device",
    (
        PulsedDevice(
            name="ideal",
            summary="10,000 equal steps without spread or noise",
            source=f"range and step of IdealizedPresetDevice ({AIHWKIT}), whose spreads are left "
            "out; Rasch, Gokmen and Haensch, arXiv 1906.02698",
            step=0.0002,
        ),
        PulsedDevice(
            name="reram-sb",
            summary="resistive memory with soft bounds: about 1,000 noisy steps, noisy writing",
            source=f"ReRamSBPresetDevice ({AIHWKIT}), fitted loosely to Gong et al., Nature "
            "Communications 9 (2018) 2102; calibrated to its symmetric point",
            step=0.002,
            low=-0.75,
            high=1.25,
            step_spread=0.3,
            low_spread=0.3 / 0.75,
            high_spread=0.3 / 1.25,
            asymmetry_spread=0.01,
            cycle=3.75,
            multiplicative=False,
            slope_up=1.0,
            slope_down=1.0,
            own_bounds=True,
            write_noise=56.0,
        ),
        PulsedDevice(
            name="ecram",
            summary="lithium-based electrochemical memory: 1,000 steps that shrink linearly",
            source=f"EcRamPresetDevice ({AIHWKIT}), fitted to Tang et al., IEDM 2018",
            step=0.002,
            low=-0.8276,
            high=1.1724,
            step_spread=0.1,
            low_spread=0.05,
            high_spread=0.05,
            asymmetry_spread=0.01,
            cycle=0.3,
            slope_up=0.1153,
            slope_down=0.5085,
            slope_up_spread=0.05,
            slope_down_spread=0.05,
        ),
        OneSidedPair(
            name="pcm-mixed",
            summary="pairs of phase-change memories that only rise, with refresh: coarse steps",
            source=f"PCMPresetDevice and PCMPresetUnitCell ({AIHWKIT}), fitted to Nandakumar et "
            "al., Frontiers in Neuroscience 14 (2020) 406; its spreads of the step, 0.2 and 0.05, "
            "are one here",
            step=0.075,  # mean of the steps from 0 to half of the range
            gain=0.01,
            boost=27.235,
            decay=2.5,
            top=2.0,
            gain_spread=0.206,
            top_spread=0.1,
            cycle=0.6,
            cycle_add=0.042,
            cycle_slope=0.108,
        ),
    ),
)
