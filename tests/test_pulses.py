"""Pulsed devices: closed forms, a plain loop over pulses, spreads, saving, counting, refusals."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from noisynets import InputError, Noisy, SystemRefused, cli
from noisynets.core.verify.quiet import declares_noise
from noisynets.diagnose.response import response
from noisynets.systems.devices import AdditiveGaussian, Periphery, WeightNoise
from noisynets.systems.pulses import (
    PULSED,
    Array,
    OneSidedPair,
    PairArray,
    Pulsed,
    PulsedArray,
    PulsedDevice,
    array_of,
    writes,
    writes_per_weight,
)

SMOOTH = PulsedDevice(name="smooth", step=0.01, asymmetry=0.2, slope_up=0.8, slope_down=0.9)
SOFT = PulsedDevice(
    name="soft", step=0.02, low=-0.8, high=1.2, slope_up=1, slope_down=1, own_bounds=True
)
EVERY = pytest.mark.parametrize("name", PULSED)
SINGLE = pytest.mark.parametrize(
    "name", [name for name, device in PULSED.items() if isinstance(device, PulsedDevice)]
)


def array(device: PulsedDevice, start: torch.Tensor, seed: int = 0) -> PulsedArray:
    made = PulsedArray(device, device_seed=1, seed=seed)
    made.make_(start)
    return made


def loop(made: PulsedArray, counts: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """One pulse after the other in float64, from the equations of the docstring."""
    d = made.device
    tables = ("w", "up", "down", "slope_up", "slope_down", "low", "high")
    w, up, down, k_up, k_down, low, high = (getattr(made, n).double().numpy() for n in tables)
    for i in range(int(np.abs(counts).max())):
        noise = d.cycle * draw.standard_normal(w.shape)
        if d.multiplicative:
            risen, fallen = w + (up + k_up * w) * (1 + noise), w - (down + k_down * w) * (1 + noise)
        else:
            risen, fallen = w + up * (1 + noise) + k_up * w, w - down * (1 + noise) - k_down * w
        moved = np.clip(np.where(counts > 0, risen, fallen), low, high)
        w = np.where(i < np.abs(counts), moved, w)
    return w


@pytest.mark.parametrize("device", [SMOOTH, SOFT, PULSED["ideal"]], ids=lambda d: d.name)
def test_without_noise_n_pulses_are_the_closed_form(device) -> None:
    start = torch.linspace(-0.7, 0.7, 41, dtype=torch.float64)
    counts = torch.arange(-20, 21).mul(17)
    made = array(device, start)
    expected = loop(made, counts.numpy(), np.random.default_rng(0))
    made.pulse_(counts)
    np.testing.assert_allclose(made.w.numpy(), expected, rtol=0, atol=1e-12)
    assert torch.equal(made.w, made.read) and torch.equal(made.pulses, counts.abs())


def test_soft_bounds_are_a_geometric_sequence_towards_the_bound() -> None:
    made = array(SOFT, torch.tensor([0.0, 0.0], dtype=torch.float64))
    made.pulse_(torch.tensor([30, -30]))
    up, down = 1.2 - 1.2 * (1 - 0.02 / 1.2) ** 30, -0.8 + 0.8 * (1 - 0.02 / 0.8) ** 30
    assert made.w.tolist() == pytest.approx([up, down], abs=1e-14)


def test_steps_of_equal_size_stop_at_the_bounds() -> None:
    made = array(PulsedDevice(name="x", step=0.3), torch.zeros(2, dtype=torch.float64))
    made.pulse_(torch.tensor([3, -9]))
    assert made.w.tolist() == pytest.approx([0.9, -1.0])


@SINGLE
@pytest.mark.parametrize("sign", [1, -1])
def test_a_thousand_pulses_have_mean_and_spread_of_a_plain_loop(name, sign) -> None:
    devices = 4000
    made = array(PULSED[name], torch.zeros(devices))
    counts = torch.full((devices,), 1000 * sign)
    expected = loop(made, counts.numpy(), np.random.default_rng(5))
    made.pulse_(counts)
    w, tolerance = made.w.numpy(), 0.02 * np.abs(expected.mean()) + 1e-6
    assert abs(w.mean() - expected.mean()) < tolerance
    assert w.std() == pytest.approx(expected.std(), rel=0.05, abs=1e-6)
    if not PULSED[name].cycle:
        np.testing.assert_allclose(w, expected, atol=1e-6)


def test_pulses_at_once_have_the_distribution_of_single_pulses() -> None:
    device = PulsedDevice(name="x", step=0.05, cycle=0.5, slope_up=0.5, multiplicative=False)
    once, single = array(device, torch.zeros(20_000)), array(device, torch.zeros(20_000), seed=3)
    once.pulse_(torch.full((20_000,), 8))
    for _ in range(8):
        single.pulse_(torch.ones(20_000))
    for moment in (torch.mean, torch.std):
        assert float(moment(once.w)) == pytest.approx(float(moment(single.w)), rel=0.02)
    assert not torch.equal(once.w, single.w)


def test_every_device_gets_its_own_number_of_pulses() -> None:
    device = PulsedDevice(name="x", step=0.01, cycle=0.3)
    counts = torch.randint(-6, 7, (50, 300), generator=torch.Generator().manual_seed(0))
    made = array(device, torch.zeros(50, 300))
    made.pulse_(counts)
    for n in range(-6, 7):
        of_n = made.w[counts == n]
        assert float(of_n.mean()) == pytest.approx(0.01 * n, abs=0.001)
        assert float(of_n.std()) == pytest.approx(0.003 * abs(n) ** 0.5, rel=0.1, abs=1e-9)
    assert torch.equal(made.pulses, counts.abs())


def test_devices_differ_as_their_spreads_say() -> None:
    made = array(PULSED["reram-sb"], torch.zeros(40_000))
    step = (made.up + made.down) / 2 / 0.002
    assert float(step.mean()) == pytest.approx(1, abs=0.01)
    assert float(step.std()) == pytest.approx(0.3, rel=0.02)
    assert float((made.up - made.down).std()) == pytest.approx(2 * 0.01 * 0.002, rel=0.02)
    assert float(made.high.mean()) == pytest.approx(1.25, rel=0.01)
    assert float(made.high.std()) == pytest.approx(0.3, rel=0.02)
    assert (made.low <= 0).all() and (made.high >= 0).all()
    torch.testing.assert_close(made.slope_up, -made.up / made.high)
    linear = array(PULSED["ecram"], torch.zeros(40_000))
    gamma = -linear.slope_up / linear.up * 1.1724
    assert float(gamma.mean()) == pytest.approx(0.1153, rel=0.02)


def test_what_is_read_has_the_noise_of_the_last_writing() -> None:
    device = PulsedDevice(name="x", step=0.01, write_noise=5.0)
    made = array(device, torch.zeros(20_000))
    assert float(made.read.std()) == pytest.approx(0.05, rel=0.03)
    before = made.read.clone()
    made.pulse_(torch.arange(20_000) % 2)
    unwritten = made.read[::2]
    assert torch.equal(unwritten, before[::2]) and (made.w[::2] == 0).all()
    assert float((made.read - made.w)[1::2].std()) == pytest.approx(0.05, rel=0.03)
    torch.testing.assert_close(made.w[1::2], torch.full((10_000,), 0.01))


@EVERY
def test_saved_copied_and_pickled_arrays_continue_with_the_same_bits(name) -> None:
    counts = torch.randint(-5, 6, (30, 20), generator=torch.Generator().manual_seed(0))

    def made(times: int) -> Array:
        new = array_of(PULSED[name], 1, 0)
        if times:
            new.make_(torch.zeros(30, 20))
        for _ in range(times):
            new.pulse_(counts)
        return new

    first, fresh, used = made(1), made(0), made(2)
    for twin in (fresh, used):
        twin.load_state_dict(load(save(first.state_dict())))
    twins = [fresh, used, copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    first.pulse_(counts)
    assert int(first.pulses.sum()) >= 2 * int(counts.abs().sum())
    for twin in twins:
        twin.pulse_(counts)
        assert torch.equal(twin.read, first.read) and torch.equal(twin.pulses, first.pulses)
        assert all(map(torch.equal, twin.buffers(), first.buffers()))


def test_one_seed_sets_the_devices_and_another_their_noise() -> None:
    def pulsed(device_seed: int, seed: int) -> torch.Tensor:
        made = PulsedArray(PULSED["ecram"], device_seed, seed)
        made.make_(torch.zeros(9))
        made.pulse_(torch.full((9,), 4))
        return torch.stack([made.high, made.w])

    first, other_devices, other_noise = pulsed(1, 2), pulsed(9, 2), pulsed(1, 9)
    assert torch.equal(first, pulsed(1, 2))
    assert not (first[0] == other_devices[0]).any()
    assert torch.equal(first[0], other_noise[0]) and not (first[1] == other_noise[1]).any()


def test_a_device_that_is_worn_out_does_not_change() -> None:
    device = PulsedDevice(name="x", step=0.01, endurance=5)
    made = array(device, torch.zeros(3, dtype=torch.float64))
    made.pulse_(torch.tensor([4, 0, -9]))
    made.pulse_(torch.tensor([4, 1, -9]))
    assert made.pulses.tolist() == [5, 1, 5] and made.worn == 2
    assert made.w.tolist() == pytest.approx([0.05, 0.01, -0.05])


def pair_loop(made: PairArray, counts: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """g⁺ and g⁻ after one pulse after the other in float64, without refresh."""
    d = made.device
    g, gain, top = (getattr(made, name).double().numpy() for name in ("g", "gain", "top"))
    each = np.stack([counts, -counts]).clip(0)
    for i in range(int(each.max())):
        step = gain * (1 + d.boost * np.exp(-2 * d.decay * g / top))
        noise = d.cycle * (step + d.cycle_add + d.cycle_slope * g) * draw.standard_normal(g.shape)
        g = np.where(i < each, np.clip(g + step + noise, 0, top), g)
    return g


def test_pairs_without_noise_are_those_of_a_plain_loop() -> None:
    pair = replace(PULSED["pcm-mixed"], cycle=0.0)
    made = array_of(pair, 1, 0)
    made.make_(torch.linspace(-1, 1, 41, dtype=torch.float64))
    assert torch.allclose(made.read, torch.linspace(-1, 1, 41, dtype=torch.float64))
    counts = torch.arange(-20, 21)
    expected = pair_loop(made, counts.numpy(), np.random.default_rng(0))
    made.pulse_(counts)
    np.testing.assert_allclose(made.g.numpy(), expected, rtol=0, atol=1e-12)
    assert torch.equal(made.pulses, torch.stack([counts, -counts]).clamp_min(0))
    assert expected.max() > 1.5 and not (expected.min(0) > 0.5).any()  # nothing is refreshed


@pytest.mark.parametrize("n", [1, 20, 100])
def test_mean_and_spread_of_pairs_are_those_of_a_plain_loop(n) -> None:
    made = array_of(PULSED["pcm-mixed"], 1, 0)
    made.make_(torch.zeros(20_000))
    expected = pair_loop(made, np.full(20_000, n), np.random.default_rng(0))
    made.pulse_(torch.full((20_000,), n))
    assert float(made.read.mean()) == pytest.approx(expected[0].mean(), rel=0.02)
    assert float(made.read.std()) == pytest.approx(expected[0].std(), rel=0.03)


def test_the_step_of_pcm_is_the_mean_up_to_half_of_the_range() -> None:
    pair = replace(PULSED["pcm-mixed"], cycle=0.0, gain_spread=0.0, top_spread=0.0)
    held = []
    for n in range(30):
        made = array_of(pair, 1, 0)
        made.make_(torch.zeros(1))
        made.pulse_(torch.tensor([n]))
        held.append(float(made.read))
    n = np.searchsorted(held, 1.0)
    assert 1.0 / (n - 0.5) == pytest.approx(pair.step, rel=0.1)


def test_pairs_near_their_top_are_refreshed_and_this_is_counted() -> None:
    pair = OneSidedPair(name="x", step=0.1, gain=0.1, boost=0, decay=0, endurance=12)
    made = array_of(pair, 0, 0)
    made.make_(torch.zeros(3, dtype=torch.float64))
    made.pulse_(torch.tensor([8, 8, -8]))
    assert made.pulses.tolist() == [[8, 8, 0], [0, 0, 8]]  # the other one is low
    made.pulse_(torch.tensor([-3, -2, 3]))
    assert made.read.tolist() == pytest.approx([0.5, 0.6, -0.5])
    assert made.g.tolist() == pytest.approx(np.array([[0.5, 0.8, 0.0], [0.0, 0.2, 0.5]]))
    assert made.pulses.tolist() == [[9, 8, 4], [4, 2, 9]] and made.worn == 0
    made.pulse_(torch.tensor([9, 9, 9]))
    assert made.pulses[0].tolist() == [12, 12, 12] and made.worn == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step": 3.0}, "device 'x': a step of 3 is as large as the range -1..1"),
        ({"asymmetry": 0.5}, "asymmetry 0.5 leaves no symmetric point within -1..1"),
        ({"asymmetry": 1.5, "slope_up": 1, "slope_down": 1}, "leaves no symmetric point"),
        ({"asymmetry": float("nan")}, "asymmetry nan must be finite"),
        ({"step": 0.0}, "step 0 must be positive"),
        ({"low": 0.1}, "-low -0.1 must be positive"),
        ({"cycle": -1.0}, "cycle -1 must be finite and not negative"),
        ({"step": 0.5, "slope_up": 2}, "slope_up 2: a pulse would pass the bound"),
        ({"endurance": 0}, "endurance 0 is no pulse at all"),
        ({"energy": -1.0}, "energy -1 must be positive"),
    ],
)
def test_impossible_devices_are_refused(wrong, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        PulsedDevice(**({"name": "x", "step": 0.01} | wrong))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"step": 1.5}, "device 'x': a step of 1.5 is as large as the range 0..1"),
        ({"gain": 0.0}, "gain 0 must be positive"),
        ({"refresh_above": 2.0}, "refresh_above 2 must be a probability"),
        ({"top_spread": -1.0}, "top_spread -1 must be finite and not negative"),
    ],
)
def test_impossible_pairs_are_refused(wrong, message) -> None:
    with pytest.raises(InputError, match=message):
        OneSidedPair(**({"name": "x", "step": 0.1, "gain": 0.1, "boost": 1, "decay": 1} | wrong))


def test_unknown_devices_and_layers_are_refused() -> None:
    with pytest.raises(InputError, match="unknown pulsed device 'ecrum': did you mean 'ecram'"):
        Pulsed(nn.Linear(2, 2), "ecrum")
    with pytest.raises(InputError, match="scale 0 must be positive"):
        Pulsed(nn.Linear(2, 2), scale=0.0)
    with pytest.raises(SystemRefused, match="GroupNorm: only Linear and convolutions"):
        Pulsed(nn.GroupNorm(1, 2))
    with pytest.raises(SystemRefused, match="pulsed already"):
        Pulsed(Noisy(Pulsed(nn.Linear(2, 2)), AdditiveGaussian(0.1)))
    with pytest.raises(SystemRefused, match="LazyLinear: it has no weights yet"):
        Pulsed(nn.LazyLinear(3))
    with pytest.raises(InputError, match="1e\\+06 pulses at once for one weight"):
        Pulsed(nn.Linear(1, 1)).pulse_(torch.full((1, 1), 1e6))
    with pytest.raises(InputError, match="has no pulsed layers: nothing is written"):
        writes_per_weight(nn.Linear(1, 1))


@settings(max_examples=60, deadline=None)
@given(
    step=st.floats(1e-3, 0.2),
    asymmetry=st.floats(-0.9, 0.9),
    up=st.floats(0, 2),
    down=st.floats(0, 2),
    cycle=st.sampled_from([0.0, 0.5]),
)
def test_any_device_is_refused_or_stays_within_its_bounds(step, asymmetry, up, down, cycle) -> None:
    values = dict(step=step, asymmetry=asymmetry, slope_up=up, slope_down=down, cycle=cycle)
    try:
        device = PulsedDevice(name="x", high_spread=0.3, low_spread=0.3, **values)
    except InputError:
        return
    point = device.symmetric_point
    (s_up, s_down), (k_up, k_down) = device.steps, device.slopes
    assert -1 < point < 1 and s_up + k_up * point == pytest.approx(s_down + k_down * point)
    made = array(device, torch.zeros(50))
    made.pulse_(torch.arange(-25, 25) * 7)
    assert (made.low <= made.w).all() and (made.w <= made.high).all()


def test_a_pulsed_layer_computes_with_what_its_devices_hold() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 4)
    before = linear.weight.detach().clone()
    layer = Pulsed(linear, "ideal")
    assert torch.allclose(linear.weight, before, atol=1e-7)  # within the bounds: as it was
    assert float(layer.array.w.abs().max()) == pytest.approx(0.6)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), linear(x))
    layer.pulse_(torch.ones(4, 6))
    assert torch.allclose(linear.weight, before + float(layer.scale) * 0.0002, atol=1e-6)
    assert writes(layer)[""].pulses == 24 and writes_per_weight(layer) == 1
    assert not any(declares_noise(module) for module in layer.modules())


def test_weights_beyond_the_bounds_are_clipped_when_programmed() -> None:
    layer = Pulsed(nn.Linear(40, 30), "reram-sb", scale=0.01, device_seed=0, seed=0)
    assert (layer.array.w <= layer.array.high).all() and (layer.array.low <= layer.array.w).all()
    assert torch.allclose(layer.weight, layer.scale * layer.array.read)


@pytest.mark.parametrize("outside", [True, False])
def test_pulsed_layers_compose_with_devices_and_precision(outside) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6, dtype=torch.float64)
    linear, twin = nn.Linear(6, 4), nn.Linear(6, 4)

    def device(layer: nn.Module) -> nn.Module:
        return Periphery(Noisy(layer, WeightNoise(0.1), seed=1), seed=2)

    layer = Pulsed(device(linear), "ideal") if outside else Periphery(Pulsed(linear), seed=2)
    twin.load_state_dict(linear.state_dict())
    expected = device(twin) if outside else Periphery(twin, seed=2)
    assert torch.equal(layer.double()(x), expected.double()(x))
    pulsed = layer if outside else layer.layer
    pulsed.pulse_(torch.ones(4, 6))
    assert torch.allclose(linear.weight, twin.weight + pulsed.step, atol=1e-6)


def test_changes_without_pulses_are_noticed() -> None:
    layer = Pulsed(nn.Linear(3, 2))
    layer.weight.data.add_(0.1)
    with pytest.raises(InputError, match="the weights of Linear.* were changed without pulses"):
        layer.pulse_(torch.ones(2, 3))
    with pytest.raises(InputError, match="were changed without pulses"):
        writes(layer)
    layer.program_(layer.weight)
    layer.pulse_(torch.ones(2, 3))


@EVERY
def test_the_response_of_a_device_is_drawn(name, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["show", name])
    assert capsys.readouterr().out.strip() == f"{name}.png"
    assert (tmp_path / f"{name}.png").is_file()
    found = response(PULSED[name], devices=300)
    top = found.read[len(found.pulses) // 2].mean()
    assert top > found.read[0].mean() + 0.5 and found.read[-1].mean() < top - 0.5
    assert float(found.pulses[-1]) == pytest.approx(2 * PULSED[name].states, rel=0.02)
