"""Optimisers that write by pulses: plain-loop references, means over noise, state, runs."""

import copy

import pulse_reference as reference
import pytest
import torch
from tiny import config, final, interrupted, run, same
from torch import nn

from noisynets import Backpropagation, Diverged, InputError, NodePerturbation, cross_entropy
from noisynets.run.plugins import REGISTRIES, register
from noisynets.systems.pulses import (
    AGAD,
    PULSED,
    UPDATES,
    ChoppedTTv2,
    MixedPrecisionSGD,
    Pulsed,
    PulsedDevice,
    PulsedSGD,
    ThresholdSGD,
    TikiTaka,
    TTv2,
    UpdateRates,
    writes,
    writes_per_weight,
)

UNEVEN = PulsedDevice(
    name="uneven",
    step=0.01,
    low=-0.9,
    asymmetry=0.2,
    asymmetry_spread=0.1,
    step_spread=0.3,
    high_spread=0.2,
    slope_up=0.6,
    slope_down=0.7,
)
LR, SCALE, STEPS = 0.02, 0.5, 60
EVERY = pytest.mark.parametrize("update", UPDATES)


def layer(device: PulsedDevice = UNEVEN, seed: int = 0) -> Pulsed:
    torch.manual_seed(3)
    linear = nn.Linear(4, 3).double()
    return Pulsed(linear, device, scale=SCALE, device_seed=1, seed=seed)


def gradients(shape=(3, 4)) -> list[torch.Tensor]:
    drawn_by = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=drawn_by, dtype=torch.float64) for _ in range(STEPS)]


def trained(made: Pulsed, optimiser: torch.optim.Optimizer) -> Pulsed:
    for g in gradients():
        made.weight.grad = g.clone()
        optimiser.step()
    return made


def agrees(made: Pulsed, devices: reference.Devices) -> None:
    torch.testing.assert_close(made.weight.data, devices.weights(SCALE), rtol=0, atol=1e-12)


def test_nearest_counts_are_those_of_a_plain_loop() -> None:
    made = layer()
    devices = reference.Devices(made.array)
    trained(made, PulsedSGD(made, LR, stochastic=False))
    reference.nearest(devices, gradients(), LR, SCALE)
    agrees(made, devices)


@pytest.mark.parametrize(
    "settings", [{}, {"threshold": 3.0}, {"read_back": True}, {"threshold": 2.5, "read_back": True}]
)
def test_threshold_is_that_of_a_plain_loop(settings) -> None:
    made = layer()
    devices = reference.Devices(made.array)
    optimiser = ThresholdSGD(made, LR, **settings)
    trained(made, optimiser)
    chi = reference.accumulated(devices, gradients(), LR, SCALE, **settings)
    agrees(made, devices)
    expected = torch.tensor(chi, dtype=torch.float64)
    torch.testing.assert_close(optimiser.state[made.weight]["chi"], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("every", [1, 4])
def test_mixed_precision_is_that_of_a_plain_loop(every) -> None:
    made = layer()
    devices = reference.Devices(made.array)
    trained(made, MixedPrecisionSGD(made, LR, every=every))
    reference.accumulated(devices, gradients(), LR, SCALE, every=every)
    agrees(made, devices)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        (TikiTaka, {"sweep": 2}, {"buffer": None}),
        (TTv2, {"sweep": 3}, {"buffer": 1.0}),
        (TTv2, {"sweep": 1, "threshold": 0.3}, {"buffer": 0.3}),
        (ChoppedTTv2, {"sweep": 3, "period": 4}, {"buffer": 1.0, "period": 4}),
        (AGAD, {"sweep": 2, "period": 3}, {"buffer": 1.0, "period": 3, "forget": 0.5}),
        (AGAD, {"sweep": 1, "period": 5, "forget": 1.0}, {"buffer": 1.0, "period": 5, "forget": 1}),
    ],
)
def test_transfers_are_those_of_a_plain_loop(kind, settings, expected) -> None:
    made = layer()
    optimiser = kind(made, LR, transfer=8.0, stochastic=False, **settings)
    second, first = reference.Devices(made.fast), reference.Devices(made.array)
    before = made.weight.detach().clone()
    trained(made, optimiser)
    expected = {"sweep": settings["sweep"], "rate": 8.0} | expected
    reference.transferred(second, first, gradients(), LR, SCALE, **expected)
    agrees(made, first)
    found = SCALE * made.fast.read
    torch.testing.assert_close(found, second.weights(SCALE), rtol=0, atol=1e-12)
    assert (made.weight - before).abs().max() > 0.01


def test_kernels_are_transferred_by_their_elements() -> None:
    torch.manual_seed(0)
    device = PulsedDevice(name="x", step=0.001)
    flat, kernel = nn.Linear(18, 3).double(), nn.Conv2d(2, 3, 3).double()
    kernel.weight.data.copy_(flat.weight.view(3, 2, 3, 3))
    found = []
    for module in (flat, kernel):
        made = Pulsed(module, device, scale=1.0, device_seed=0, seed=0)
        optimiser = AGAD(made, 0.1, sweep=5)
        for g in gradients((3, 18)):
            made.weight.grad = g.view_as(made.weight).clone()
            optimiser.step()
        found.append(made.weight.detach().view(3, 18))
    assert torch.equal(*found)


def test_the_second_devices_are_other_devices_than_the_first() -> None:
    made = layer()
    TTv2(made, LR)
    assert not (made.array.up == made.fast.up).any()
    assert float(made.fast.w.abs().max()) == 0


def test_an_offset_of_the_second_devices_is_not_transferred_by_chopped_updates() -> None:
    """Gradients of mean 0 on devices whose symmetric point is not at 0."""
    device = PulsedDevice(name="x", step=0.01, asymmetry=0.3, slope_up=1, slope_down=2)
    drawn_by = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 40, 50, generator=drawn_by, dtype=torch.float64)
    drift = {}
    for kind in (TTv2, ChoppedTTv2, AGAD):
        made = Pulsed(nn.Linear(50, 40).double(), device, scale=1.0, device_seed=0, seed=0)
        made.program_(torch.zeros(40, 50))
        optimiser = kind(made, 0.1, sweep=1)
        for g in noise:
            made.weight.grad = g
            optimiser.step()
        drift[kind] = float(made.weight.detach().mean().abs())
    assert device.symmetric_point == pytest.approx(0.125)
    assert drift[TTv2] > 0.5  # noise alone draws the first devices to 0.125
    assert drift[ChoppedTTv2] < 0.2 and drift[AGAD] < 0.2, drift


def test_what_is_read_back_and_what_is_due_are_the_weights_of_plain_sgd() -> None:
    made = layer()
    plain = made.weight.detach().clone() - LR * torch.stack(gradients()).sum(0)
    optimiser = ThresholdSGD(made, LR, read_back=True)
    trained(made, optimiser)
    found = made.weight.data + optimiser.state[made.weight]["chi"]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)


def test_stochastic_counts_have_the_mean_and_variance_of_rounding() -> None:
    device = PulsedDevice(name="x", step=0.01)
    made = Pulsed(nn.Linear(200, 100).double(), device, scale=1.0, seed=0)
    made.program_(torch.zeros(100, 200))
    made.weight.grad = torch.full((100, 200), -0.23, dtype=torch.float64)
    PulsedSGD(made, lr=0.1).step()  # 2.3 pulses
    n = made.weight.data / 0.01
    assert set(n.round().unique().tolist()) == {2.0, 3.0}
    assert float(n.mean()) == pytest.approx(2.3, abs=0.015)
    assert float(n.var()) == pytest.approx(0.3 * 0.7, rel=0.03)


@EVERY
def test_with_noise_the_mean_over_seeds_is_that_without(update) -> None:
    """Where steps do not depend on w, noise from pulse to pulse cancels in the mean."""
    wide = dict(name="x", step=0.01, step_spread=0.3, low=-9, high=9)
    quiet = PulsedDevice(**wide)
    noisy = PulsedDevice(**wide, cycle=0.5)

    def at_the_end(device: PulsedDevice, seed: int) -> torch.Tensor:
        made = layer(device, seed)
        trained(made, UPDATES[update].make(made, UpdateRates(lr=LR)))
        return made.weight.detach()

    seeds = range(10)
    expected = torch.stack([at_the_end(quiet, seed) for seed in seeds]).mean(0)
    found = torch.stack([at_the_end(noisy, seed) for seed in seeds])
    error = found.std(0) / len(seeds) ** 0.5 * 2**0.5
    assert ((found.mean(0) - expected).abs() < 4 * error + 1e-9).all()
    assert (found.std(0) > 0).all()


@EVERY
def test_bounds_and_bursts_hold_whatever_the_gradient_is(update) -> None:
    made = layer()
    optimiser = UPDATES[update].make(made, UpdateRates(lr=LR))
    made.weight.grad = torch.full((3, 4), -1e9, dtype=torch.float64)
    optimiser.step()
    assert writes(made)[""].largest <= 31 and writes(made)[""].pulses > 0
    for _ in range(40):
        optimiser.step()
    assert (made.array.w <= made.array.high).all()
    made.weight.grad[0, 0] = float("nan")
    with pytest.raises(Diverged, match="a gradient is not finite: lower the learning rate"):
        optimiser.step()


@EVERY
def test_other_parameters_get_plain_sgd_and_frozen_weights_nothing(update) -> None:
    net = nn.Sequential(layer(), nn.LayerNorm(3).double(), nn.Linear(3, 2).double())
    twin = copy.deepcopy(net)
    net[0].layer.weight.requires_grad_(False)
    optimiser = UPDATES[update].make(net, UpdateRates(lr=LR))
    plain = torch.optim.SGD([p for p in twin.parameters() if p.shape != (3, 4)], lr=LR)
    x = torch.randn(5, 4, dtype=torch.float64)
    for system, o in ((net, optimiser), (twin, plain)):
        system(x).square().mean().backward()
        o.step()
    assert writes_per_weight(net) == 0
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.data, b.data)


@EVERY
def test_saved_optimisers_continue_with_the_same_bits(update) -> None:
    device = PulsedDevice(name="x", step=0.01, cycle=0.4, write_noise=2.0, asymmetry_spread=0.1)

    def begun(seed: int) -> tuple[Pulsed, torch.optim.Optimizer]:
        made = layer(device, seed)
        return made, UPDATES[update].make(made, UpdateRates(lr=LR))

    made, optimiser = begun(0)
    trained(made, optimiser)
    other, continued = begun(9)
    other.load_state_dict(copy.deepcopy(made.state_dict()))
    continued.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    trained(made, optimiser), trained(other, continued)
    assert torch.equal(made.weight, other.weight)
    assert writes(made) == writes(other)
    different, another = begun(9)
    assert not torch.equal(trained(different, another).weight, made.weight)


@pytest.mark.parametrize(
    ("update", "rule"),
    [
        *[(update, "bp") for update in UPDATES],
        *[("threshold", rule) for rule in ("anp", "dfa", "kolen-pollack")],
        *[(update, "mirrored") for update in ("sgd", "agad")],
    ],
)
def test_any_estimator_trains_pulsed_weights(update, rule) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 10)
    y = x[:, :3].argmax(1)

    def on(linear: nn.Linear, seed: int) -> Pulsed:
        return Pulsed(linear, "ecram", device_seed=seed, seed=seed)

    net = nn.Sequential(on(nn.Linear(10, 16), 1), nn.LeakyReLU(0.2), on(nn.Linear(16, 3), 2))
    if rule == "bp":
        estimator = Backpropagation(net, cross_entropy)
    else:
        estimator = NodePerturbation(net, cross_entropy, rule, sigma=0.05)
    optimiser = UPDATES[update].make(net, UpdateRates(lr=0.3))
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        losses.append(float(estimator(x, y).loss.mean()))
        optimiser.step()
    assert losses[-1] < (0.97 if rule == "anp" else 0.7) * losses[0]
    assert all(each.pulses > 0 for each in writes(net).values())


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no pulsed layers: wrap its layers in Pulsed"):
        PulsedSGD(nn.Linear(2, 2), 0.1)
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    net = nn.Sequential(Pulsed(first, scale=1.0), Pulsed(second, scale=1.0))
    with pytest.raises(InputError, match="'1' and '0' share weights"):
        ThresholdSGD(net, 0.1)
    with pytest.raises(InputError, match="threshold 0.5 must be from 1 to burst, 31"):
        ThresholdSGD(net[0], 0.1, threshold=0.5)
    for lr in (0.0, float("nan")):
        with pytest.raises(InputError, match="lr .* must be positive and finite"):
            PulsedSGD(net[0], lr)


SMALL = {"system": "noisy-mlp", "writes": "reram-sb"}


@EVERY
def test_an_interrupted_run_ends_with_the_same_bits(update, tmp_path, monkeypatch) -> None:
    settings = SMALL | {"update": update, "epochs": 2}
    whole = run(tmp_path / "whole", **settings)
    folder = interrupted(tmp_path / "broken", monkeypatch, settings, stops=3)
    assert same(final(whole), final(folder))
    summary = folder.summary()
    assert summary["writes_per_weight"] == whole.summary()["writes_per_weight"] > 0
    _, rows = final(whole)
    assert float(rows[-1]["writes_per_weight"]) == pytest.approx(summary["writes_per_weight"])
    assert summary["pulses"] == round(summary["writes_per_weight"] * (16 * 8 + 8 * 3))
    assert list(summary["writes_by_layer"]) == ["1", "3"]
    assert folder.metrics("accuracy")[0]["writes_per_weight"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "analog-conv", "hidden": (4,)},
        {"system": "rlif", "steps": 3},
        {"system": "mlp", "device_preset": "reram", "noise_during": "training"},
        {"system": "mlp", "dtype": "float64", "rule": "bp", "device_seed": 3},
        {"system": "noisy-mlp", "rule": "danp"},
        {"system": "analog-mlp", "rule": "pat"},
        {"system": "mlp", "freeze_hidden": True},
        {"system": "mlp", "update": "mixed-precision", "writes": "pcm-mixed"},
        {"system": "mlp", "update": "agad", "writes": "pcm-mixed"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_any_system_can_be_written_by_pulses(settings, tmp_path) -> None:
    folder = run(tmp_path / "run", epochs=1, **({"writes": "ecram"} | settings))
    assert folder.summary()["writes_per_weight"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"writes": "reram"}, "unknown pulsed device 'reram'"),
        ({"writes": "ecram", "update": "adam"}, "unknown update 'adam'"),
        ({"update": "sgd"}, "--update sgd: nothing is written by pulses: name devices with"),
        ({"write_threshold": 2.0}, "--write-threshold 2: nothing is written by pulses"),
        (
            {"writes": "ecram", "update": "sgd", "write_threshold": 2.0},
            "--write-threshold 2: --update sgd has none",
        ),
        ({"writes": "ecram", "write_threshold": 99.0}, "--write-threshold 99 must be within 1..31"),
        ({"writes": "ecram", "system": "numpy-box"}, "--writes ecram: a box is a device by itself"),
        (
            {"writes": "ecram", "rule": "spsa"},
            "--rule spsa: perturbs weights, which --writes ecram",
        ),
        ({"writes": "ecram", "dtype": "bfloat16"}, "a pulse is below the precision of bfloat16"),
        ({"writes": "ecram", "optimiser": "sgd"}, "--optimiser sgd: --update says how"),
        ({"writes": "ecram", "adam_beta2": 0.9}, "--adam-beta2 0.9: --update threshold has no"),
        ({"writes": "ideal", "device_seed": 2}, "--device-seed 2: device 'none' is the same on"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        config(**settings)
    assert "\n" not in str(caught.value)


def test_kernels_that_are_decorrelated_cannot_be_held_by_devices(tmp_path) -> None:
    settings = {"system": "conv", "hidden": (4,), "rule": "danp", "writes": "ecram"}
    with pytest.raises(InputError, match="'0': a decorrelated convolution has another kernel in"):
        run(tmp_path / "run", **settings)


def test_a_device_from_outside_can_be_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(REGISTRIES["pulsed device"], "register", lambda entry, name: added(entry))
    added = lambda entry: monkeypatch.setitem(PULSED, entry.name, entry)  # noqa: E731
    register("pulsed device", PulsedDevice(name="mine", step=0.01, endurance=3, energy=2e-12))
    with pytest.warns(UserWarning, match="worn out"):
        summary = run(tmp_path / "run", writes="mine", epochs=2, update="sgd", lr=1.0).summary()
    assert summary["most_writes_of_a_device"] == 3 and summary["worn_devices"] > 0
    assert summary["write_energy_joules"] == pytest.approx(2e-12 * summary["pulses"])
