"""Pulsed devices against the simulator of aihwkit, where it is installed: the same devices."""

import pytest
import torch

from noisynets.systems.pulses import PULSED, PairArray, PulsedArray

devices = pytest.importorskip("aihwkit.simulator.presets.devices")
configs = pytest.importorskip("aihwkit.simulator.configs")
tiles = pytest.importorskip("aihwkit.simulator.tiles")

SHAPE = (50, 100)
OURS = {
    "up": "dwmin_up",
    "down": "dwmin_down",
    "high": "max_bound",
    "low": "min_bound",
    "slope_up": "slope_up",
    "slope_down": "slope_down",
}
"""Names of what differs between devices: here and there."""


TILES = 12
"""Tiles of aihwkit, whose means differ by about 2 %: its noise is the same in several devices."""
EACH = pytest.mark.parametrize(
    ("name", "preset"), [("reram-sb", "ReRamSBPresetDevice"), ("ecram", "EcRamPresetDevice")]
)


def tile_of(preset: str, seed: int):
    """A tile of zeros that gives every weight one pulse in an update; and its devices' values."""
    config = configs.SingleRPUConfig(device=getattr(devices, preset)(construction_seed=seed))
    config.update.desired_bl, config.update.fixed_bl = 1, True
    config.update.update_management = config.update.update_bl_management = False
    owner = tiles.AnalogTile(*SHAPE, config)
    tile = owner.tile
    tile.set_learning_rate(100 * config.device.dw_min)  # a pulse with certainty
    tile.set_weights(torch.zeros(SHAPE))
    names = tile.get_hidden_parameter_names()
    values = [value.clone() for value in tile.get_hidden_parameters()]
    return owner, dict(zip(names, values, strict=True))


@EACH
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("pulses", [100, 1000])
def test_mean_and_spread_after_many_pulses_are_those_of_aihwkit(name, preset, sign, pulses) -> None:
    """Within 2 %, on devices whose own values are taken over from there."""
    x, d = torch.ones(1, SHAPE[1]), -sign * torch.ones(1, SHAPE[0])
    expected, found = [], []
    for seed in range(1, TILES + 1):
        owner, values = tile_of(preset, seed)  # it holds the memory of its tile
        for _ in range(pulses):
            owner.tile.update(x, d, False)
        expected.append(owner.tile.get_weights().clone())
        array = PulsedArray(PULSED[name], device_seed=0, seed=seed)
        array.make_(torch.zeros(SHAPE))
        for ours, other in OURS.items():
            if other in values:
                setattr(array, ours, values[other].clone())
        if array.device.own_bounds:
            array.slope_up, array.slope_down = -array.up / array.high, -array.down / array.low
        array.make_(torch.zeros(SHAPE))
        array.pulse_(torch.full(SHAPE, sign * pulses))
        found.append(array.read)
    here, there = torch.stack(found), torch.stack(expected)
    assert float(here.mean()) == pytest.approx(float(there.mean()), rel=0.02)
    assert float(here.std()) == pytest.approx(float(there.std()), rel=0.02)


@EACH
def test_devices_differ_as_those_of_aihwkit(name, preset) -> None:
    drawn = [tile_of(preset, seed)[1] for seed in range(1, TILES + 1)]
    array = PulsedArray(PULSED[name], device_seed=0, seed=0)
    array.make_(torch.zeros(TILES, *SHAPE))
    for ours, other in OURS.items():
        if other in drawn[0]:
            here, there = getattr(array, ours), torch.stack([values[other] for values in drawn])
            assert float(here.mean()) == pytest.approx(float(there.mean()), rel=0.02), ours
            assert float(here.std()) == pytest.approx(float(there.std()), rel=0.04), ours


def test_conductances_of_pcm_rise_as_those_of_aihwkit() -> None:
    """20 pulses up: mean and spread within 2 %, on devices drawn here and there."""
    drawn = []
    for seed in range(1, TILES + 1):
        owner, _ = tile_of("PCMPresetDevice", seed)
        for _ in range(20):
            owner.tile.update(torch.ones(1, SHAPE[1]), -torch.ones(1, SHAPE[0]), False)
        drawn.append(owner.tile.get_weights().clone())
    array = PairArray(PULSED["pcm-mixed"], device_seed=0, seed=0)
    array.make_(torch.zeros(TILES, *SHAPE))
    array.pulse_(torch.full((TILES, *SHAPE), 20))
    there = torch.stack(drawn)
    assert float(array.read.mean()) == pytest.approx(float(there.mean()), rel=0.02)
    assert float(array.read.std()) == pytest.approx(float(there.std()), rel=0.02)
