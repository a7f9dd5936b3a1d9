"""Pulsed devices against the simulator of aihwkit, where it is installed: the same devices."""

import pytest
import torch

from noisynets.systems.pulses import (
    PULSED,
    UPDATES,
    PairArray,
    Pulsed,
    PulsedArray,
    UpdateRates,
)

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


INPUTS, OUTPUTS, EXAMPLES, SEEDS = 12, 5, 600, 20
KINDS = {
    "sgd": (lambda device: configs.SingleRPUConfig(device=device), 1),
    "mixed-precision": (
        lambda device: configs.DigitalRankUpdateRPUConfig(
            device=configs.MixedPrecisionCompound(device=device, transfer_every=1)
        ),
        10,
    ),
}
"""Their settings of an update on a device, and the size of a batch."""


def errors(layer, weights, optimiser, batch: int, y: torch.Tensor, x: torch.Tensor) -> float:
    """Squared error of the weights after one epoch of regression."""
    for some, targets in zip(x.split(batch), y.split(batch), strict=True):
        optimiser.zero_grad()
        (layer(some) - targets).square().sum(1).mean().div(2).backward()
        optimiser.step()
    return float((weights() - TEACHER).square().mean())


TEACHER = 0.3 * torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_regression_ends_as_with_aihwkit(kind) -> None:
    """The mean over 20 seeds within 10 %; gradients are small enough that no burst is cut off."""
    nn = pytest.importorskip("aihwkit.nn")
    optim = pytest.importorskip("aihwkit.optim")
    made, batch = KINDS[kind]
    drawn_by, lr = torch.Generator().manual_seed(1), 0.01 if batch == 1 else 0.05
    x = torch.randn(EXAMPLES, INPUTS, generator=drawn_by)
    y = x @ TEACHER.T + 0.5 * torch.randn(EXAMPLES, OUTPUTS, generator=drawn_by)
    theirs, ours = [], []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        config = made(devices.EcRamPresetDevice())
        config.forward.is_perfect = config.backward.is_perfect = True
        config.mapping.weight_scaling_omega = 0.0
        analog = nn.AnalogLinear(INPUTS, OUTPUTS, bias=False, rpu_config=config)
        analog.set_weights(torch.zeros(OUTPUTS, INPUTS))
        optimiser = optim.AnalogSGD(analog.parameters(), lr=lr)
        optimiser.regroup_param_groups(analog)
        held = lambda analog=analog: analog.get_weights()[0]  # noqa: E731
        theirs.append(errors(analog, held, optimiser, batch, y, x))
        linear = torch.nn.Linear(INPUTS, OUTPUTS, bias=False)
        torch.nn.init.zeros_(linear.weight)
        layer = Pulsed(linear, "ecram", scale=1.0, device_seed=seed, seed=seed)
        pulsed = UPDATES[kind].make(layer, UpdateRates(lr=lr))
        ours.append(errors(layer, lambda w=linear.weight: w.detach(), pulsed, batch, y, x))
    assert sum(ours) == pytest.approx(sum(theirs), rel=0.1)
