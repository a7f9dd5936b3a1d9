"""Boxes: simulated chips against PyTorch networks, the contract, and training."""

import copy
import re
import shlex
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from boxes import SERVE, batch, inputs, system, weights
from own_box import Amplifiers
from tiny import TASK, config, run
from torch import nn

from noisynets import NodePerturbation, cli, cross_entropy, squared_error
from noisynets.bench import read_suite
from noisynets.bench.run import schedule
from noisynets.core.errors import InputError, SystemRefused
from noisynets.run.session import build
from noisynets.systems.blackbox import (
    PERFECT,
    BlackBox,
    BoxFailed,
    BoxLayer,
    Distortions,
    Layer,
    Measured,
    NengoBox,
    NumpyChip,
    Reading,
    SpikingChip,
    Weights,
    examine,
)
from noisynets.systems.blackbox.tiles import Tiles
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.spiking import Leaky, MeanMembrane, Spiking
from noisynets.tasks.data import TASKS

BOXES = ("numpy-box", "sign-numpy-box", "lif-numpy-box")


@pytest.fixture(autouse=True)
def tiny_task(monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", TASK)


@pytest.mark.parametrize("unit", ["leaky", "sign"])
def test_a_perfect_chip_is_a_perceptron(unit) -> None:
    w, x = weights(5, 7, 6, 3), inputs(20, 5)
    layers, output = NumpyChip((5, 7, 6, 3), PERFECT, unit=unit, slope=0.3).run(w, x, 0)
    a = torch.from_numpy(x)
    for i, (seen, (weight, bias)) in enumerate(zip(layers, w, strict=True)):
        if i:
            a = torch.where(a >= 0, 1.0, -1.0) if unit == "sign" else nn.LeakyReLU(0.3)(a)
        np.testing.assert_allclose(seen.inputs, a.numpy(), atol=1e-6)
        a = a @ torch.from_numpy(weight).T + torch.from_numpy(bias)
        np.testing.assert_allclose(seen.activities, a.numpy(), atol=1e-5)
    assert output is None


def test_a_perfect_spiking_chip_is_our_spiking_network() -> None:
    """The same weights in the network of torch, whose neurons are tested against snnTorch."""
    w, x = weights(5, 30, 20, 3), 3 * inputs(20, 5)
    chip = SpikingChip((5, 30, 20, 3), PERFECT, steps=12, beta=0.8, threshold=0.5)
    layers, output = chip.run(w, x, 0)
    net = nn.Sequential(nn.Linear(5, 30), Leaky(0.8, threshold=0.5), nn.Linear(30, 20))
    net.extend([Leaky(0.8, threshold=0.5), nn.Linear(20, 3)])
    for layer, (weight, bias) in zip(net[::2], w, strict=True):
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    spikes = torch.zeros(20, 20)
    net[4].register_forward_pre_hook(lambda layer, args: (spikes.add_(args[0]), None)[1])
    with torch.no_grad():
        expected = Spiking(net, steps=12, readout=MeanMembrane(0.8))(torch.from_numpy(x[:, None]))
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(layers[2].inputs, spikes.numpy() / 12, atol=1e-6)
    assert 0.05 < layers[2].inputs.mean() < 0.9


def test_distortions_have_the_sizes_that_are_set() -> None:
    d = Distortions(0.3, 0.05, 0.2, 0.4, bits=0, read_noise=0.1, drift=0.05)
    tiles = Tiles([Layer(300, 200)], d, chip=1)
    w = [Weights(np.ones((200, 300), np.float32), np.zeros(200, np.float32))]
    (actual,) = tiles.actual_weights(w, trial=0)
    assert (actual.weight == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert actual.weight[actual.weight != 0].std() == pytest.approx(0.3, rel=0.03)
    (later,) = tiles.actual_weights(w, trial=3000)
    np.testing.assert_allclose(later.weight, actual.weight * 4**-0.05, rtol=1e-5)
    noise = np.random.default_rng(0)
    zero = np.stack([tiles.activity(0, np.zeros((400, 200), np.float32), noise) for _ in range(5)])
    assert zero.reshape(-1, 200).std(0).mean() == pytest.approx(0.1, rel=0.02)
    assert zero.reshape(-1, 200).mean(0).std() == pytest.approx(0.4, rel=0.15)
    one = np.stack([tiles.activity(0, np.ones((400, 200), np.float32), noise) for _ in range(5)])
    gains = (one - zero).reshape(-1, 200).mean(0)
    assert (gains > 0).all() and np.log(gains).std() == pytest.approx(0.2, rel=0.2)


def test_converters_have_as_many_levels_as_bits_and_clip() -> None:
    tiles = Tiles([Layer(1, 1)], Distortions(0, 0, 0, 0, bits=4, bound=2.0, read_noise=0), chip=0)
    a = tiles.activity(0, np.linspace(-3, 3, 5000, dtype=np.float32)[:, None], None)
    levels = np.unique(a.round(5))
    assert len(levels) <= 17 and levels.min() == -2 and levels.max() == 2
    np.testing.assert_allclose(np.diff(levels)[1:-1], 4 / 15, atol=1e-4)


@pytest.mark.parametrize("kind", [NumpyChip, SpikingChip])
def test_a_trial_is_repeated_bit_by_bit_and_another_has_other_noise(kind) -> None:
    w, x = weights(5, 7, 3), inputs(20, 5)

    def last(chip: int = 0, seed: int = 0, trial: int = 4) -> np.ndarray:
        return kind((5, 7, 3), chip=chip, seed=seed).run(w, x, trial).layers[-1].activities

    np.testing.assert_array_equal(last(), last())
    for other in ({"trial": 5}, {"seed": 1}, {"chip": 1}):
        assert (last(**other) != last()).mean() > 0.3


class Broken:
    """A chip whose reading is changed before it is returned."""

    def __init__(self, change) -> None:
        self.chip, self.change = NumpyChip((6, 8, 3)), change
        self.layers = self.chip.layers

    def run(self, weights, x, trial):
        return self.change(self.chip.run(weights, x, trial))


def nan_in_layer_1(reading: Reading) -> Reading:
    reading.layers[1].activities[3, 2] = np.nan
    return reading


def as_type(convert, layer: int = 0):
    """Convert the activities of a layer."""

    def change(reading: Reading) -> Reading:
        layers = list(reading.layers)
        layers[layer] = Measured(layers[layer].inputs, convert(layers[layer].activities))
        return Reading(layers)

    return change


def other(dtype):
    return as_type(lambda a: a.astype(dtype))


def changed(value: float):
    def change(a: np.ndarray) -> np.ndarray:
        a = a.astype(np.float64)
        a[3, 2] = value
        return a

    return as_type(change)


def system_of(change) -> BlackBox:
    return BlackBox(Broken(change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: Reading(r.layers[:1]), "the reading has 1 layers, but the box has 2"),
        (
            lambda r: Reading([r.layers[0], Measured(r.layers[1].inputs[:, :5], r.layers[1][1])]),
            r"layer 1: inputs: shape \(40, 5\), but \(40, 8\) was expected",
        ),
        (nan_in_layer_1, "layer 1: activities: nan in row 3, column 2"),
        (lambda r: Reading(r.layers, np.zeros((40, 4))), r"output: shape \(40, 4\)"),
        (lambda r: None, "it returned a NoneType, not a Reading"),
        (lambda r: r.layers[0].activities.hex(), "trial 0 of the box: AttributeError: .*hex"),
        (other(object), "layer 0: activities: objects, but numbers were expected"),
        (other(str), "layer 0: activities: text, but numbers"),
        (other("S"), "layer 0: activities: text, but numbers"),
        (other([("volts", "f4")]), "layer 0: activities: structures, but numbers"),
        (other(complex), "layer 0: activities: complex numbers, but numbers"),
        (other("M8[s]"), "layer 0: activities: datetime64"),
        (changed(np.inf), "layer 0: activities: inf in row 3, column 2: not a finite"),
        (changed(1e300), r"layer 0: activities: 1e\+300 in row 3, column 2: too large"),
        (as_type(lambda a: np.ma.masked_greater(a, 0.5)), "layer 0: activities: .* masked"),
        (as_type(lambda a: [[1.0], [1.0, 2.0]]), "layer 0: activities: cannot be read as numbers"),
    ],
)
def test_a_breach_of_the_contract_is_named_in_training_and_by_check_box(change, words) -> None:
    with pytest.raises(BoxFailed, match=words):
        BlackBox(Broken(change))(batch()[0])
    *_, last = examine(Broken(change), rows=40)
    assert last.grade == "failed" and re.search(words, last.message)


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        lambda a: tuple(map(tuple, a.tolist())),
        torch.from_numpy,
        lambda a: a.astype(">f4"),
        lambda a: a.astype(">f8"),
        np.asfortranarray,
        lambda a: a.astype(np.float64)[::1],
    ],
)
def test_numbers_in_any_form_are_the_same_in_training_and_for_check_box(convert) -> None:
    def readings(change) -> list:
        x = batch()[0]
        output = BlackBox(Broken(change))(x)
        return [output, *examine(Broken(change), rows=40)][:1] + [
            f.grade for f in examine(Broken(change), rows=40)
        ]

    expected, found = readings(lambda reading: reading), readings(as_type(convert))
    assert torch.equal(found[0], expected[0]) and found[1:] == expected[1:]


def test_whole_numbers_of_a_converter_are_converted() -> None:
    found = BlackBox(Broken(as_type(lambda a: (a * 10).round().astype(">i2"), layer=1)))
    expected = (system_of(lambda reading: reading)(batch()[0]) * 10).round()
    assert torch.equal(found(batch()[0]), expected)


def test_a_value_that_a_half_precision_system_cannot_hold_is_refused() -> None:
    box = BlackBox(Broken(changed(1e5)))
    assert bool(box(batch()[0]).isfinite().all())
    with pytest.raises(BoxFailed, match="row 3, column 2: too large"):
        box(batch()[0].half())


class Limited(Broken):
    """Takes few rows at a time, and notes what it got."""

    def __init__(self, rows: int | None, fails: int | None = None) -> None:
        super().__init__(lambda reading: reading)
        self.chip = NumpyChip((6, 8, 3), Distortions(0, 0, 0, 0, bits=0, read_noise=0, drift=0))
        self.rows, self.calls, self.fails = rows, [], fails

    def run(self, weights, x, trial):
        self.calls.append((trial, x))
        if trial == self.fails:
            raise OSError("the instrument has gone")
        return super().run(weights, x, trial)


def test_rows_are_split_into_trials_that_hold_all_passes_of_an_example() -> None:
    x = torch.cat([batch(40)[0]] * 3)
    box = Limited(rows=25)
    limited, whole = BlackBox(box), BlackBox(Limited(rows=None))
    torch.testing.assert_close(limited(x), whole(x))
    assert [trial for trial, _ in box.calls] == [0, 1, 2, 3, 4] and limited.trials == 5
    for _, rows in box.calls:
        assert len(rows) == 24
        np.testing.assert_array_equal(rows[:8], rows[8:16])
        np.testing.assert_array_equal(rows[:8], rows[16:])
    limited(batch(1000)[0])  # an evaluation
    assert max(len(rows) for _, rows in box.calls) == 25
    torch.testing.assert_close(BlackBox(Limited(rows=2))(x), whole(x))  # fewer rows than passes


def test_a_failure_in_a_later_part_leaves_the_count_of_trials() -> None:
    limited = BlackBox(Limited(rows=10, fails=2))
    with pytest.raises(BoxFailed, match="trial 2 of the box: OSError: the instrument has gone"):
        limited(batch(40)[0])
    assert limited.trials == 0


@pytest.mark.parametrize("rows", [0, -1, 2.5, "many"])
def test_rows_must_be_a_whole_number(rows) -> None:
    with pytest.raises(BoxFailed, match="its rows must be a whole number"):
        BlackBox(Limited(rows))(batch()[0])


@pytest.mark.parametrize("rows", [7, 1000])
def test_check_box_splits_rows_too(rows) -> None:
    box = NumpyChip((6, 8, 3))
    box.rows = rows
    assert {f.grade for f in examine(box)} == {"ok"}


def test_injection_derivatives_and_wrapped_layers_are_refused() -> None:
    box = system()
    with pytest.raises(SystemRefused, match="no noise can be injected"):
        NodePerturbation(box, cross_entropy, "mirrored", sigma=0.1)
    assert not box(batch()[0]).requires_grad
    box.layers[0] = Noisy(box.layers[0], AdditiveGaussian(0.1))
    with pytest.raises(SystemRefused, match="cannot be wrapped"):
        box(batch()[0])
    with pytest.raises(SystemRefused, match="call the whole box"):
        BoxLayer(2, 3)(torch.ones(1, 2))


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "learned", "innovation", "dfa"])
def test_no_weights_are_read(rule) -> None:
    """A box with fixed weights: credit is the same, whatever weights the module holds."""

    class FixedWeights:
        chip = NumpyChip((6, 8, 3))
        layers = chip.layers

        def run(self, given, x, trial):
            return self.chip.run(weights(6, 8, 3, seed=9), x, trial)

    gradients = []
    for scale in (1.0, 100.0):
        box = BlackBox(FixedWeights())
        for layer in box.box_layers:
            nn.init.constant_(layer.weight, scale)
            nn.init.constant_(layer.bias, scale)
        estimator = NodePerturbation(box, cross_entropy, rule, sigma=None)
        for _ in range(3):
            estimator(*batch())
        gradients.append([p.grad for p in box.parameters()])
    assert all(torch.equal(a, b) and bool(a.any()) for a, b in zip(*gradients, strict=True))


def test_trials_are_counted_in_the_state_and_by_every_copy() -> None:
    box = system()
    for _ in range(3):
        box(batch()[0])
    twin, restored = copy.deepcopy(box), system()
    restored.load_state_dict(box.state_dict())
    outputs = [one(batch()[0]) for one in (box, twin, restored)]
    assert box.trials == 4 and torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(box(batch()[0]), outputs[0])


def shared_noise(reading: Reading) -> Reading:
    """Noise that all rows share."""
    for seen in reading.layers:
        shared = np.random.default_rng(zlib.crc32(seen.activities.tobytes())).standard_normal()
        seen.activities[:] = seen.activities.round(0) + np.float32(shared)
    return reading


class IgnoresWeights(Broken):
    """Layer 1 always uses the same weights."""

    def run(self, given, x, trial):
        return self.chip.run([given[0], weights(8, 3)[0]], x, trial)


def chained_wrongly() -> Broken:
    box = Broken(lambda reading: reading)
    box.layers = [Layer(6, 8), Layer(7, 3)]
    return box


def other_inputs(reading: Reading) -> Reading:
    first = reading.layers[0]
    return Reading([Measured(1 - first.inputs, first.activities), *reading.layers[1:]])


def saturated(reading: Reading) -> Reading:
    reading.layers[0].activities[:] = reading.layers[0].activities.clip(-0.1, 0.1)
    return reading


@pytest.mark.parametrize(
    ("box", "grade", "words"),
    [
        (chained_wrongly(), "failed", "layer 0 has 8 outputs, but layer 1 7 inputs"),
        (Broken(lambda r: Reading(r.layers[:1])), "failed", "the reading has 1 layers"),
        (
            NumpyChip((6, 8, 3), Distortions(read_noise=0)),
            "failed",
            "trials gave equal activities",
        ),
        (Broken(shared_noise), "failed", "noise is shared between rows"),
        (IgnoresWeights(None), "failed", "layer 1: new weights change the activities no more"),
        (Broken(other_inputs), "failed", "layer 0 receives inputs whose correlation .* is -1.00"),
        (Broken(saturated), "note", "layer 0: .*% of the activities are saturated"),
    ],
)
def test_faults_of_a_box_are_found(box, grade, words) -> None:
    found = [f.message for f in examine(box) if f.grade == grade]
    assert any(re.search(words, message) for message in found), found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [NumpyChip, SpikingChip])
def test_a_sound_box_has_no_faults(kind, seed) -> None:
    assert {f.grade for f in examine(kind((20, 16, 4), chip=seed, seed=seed), seed=seed)} == {"ok"}


def test_the_box_of_the_example_has_no_faults() -> None:
    """With 2 outputs the mean over rows has a large variance now and then, by chance."""
    for seed in range(20):
        assert {f.grade for f in examine(Amplifiers(), seed=seed)} == {"ok"}, seed


@pytest.mark.parametrize("rows", [20, 200])
def test_noise_that_rows_share_is_found_with_one_output(rows) -> None:
    class OneOutput:
        layers = (Layer(6, 1),)

        def run(self, given, x, trial):
            draw = np.random.default_rng(trial).standard_normal()
            a = x @ given[0].weight.T + given[0].bias + draw
            return Reading([Measured(x, a.astype(np.float32))])

    found = [f.message for f in examine(OneOutput(), rows=rows) if f.grade == "failed"]
    assert any("noise is shared between rows" in message for message in found)


def test_boxes_are_checked_on_the_command_line(capsys) -> None:
    cli.main(["check-box", "lif-numpy-box", "--rows", "20"])
    assert "failed" not in capsys.readouterr().out
    for command, words in (
        ([*SERVE, "5", "3", "--read-noise", "0"], "cannot be trained as it is"),
        (["no-such-program"], "cannot be started"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(["check-box", shlex.join(command), "--rows", "20"])
        assert error.value.code == 2 and words in capsys.readouterr().err


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("rule", ["mirrored", "learned", "pat", "offline"])
def test_boxes_learn(kind, rule, tmp_path) -> None:
    if (kind, rule) == ("lif-numpy-box", "pat"):
        pytest.skip("its model calls every layer several times per trial")
    settings = {"spread": 0.1} if rule == "offline" else {}
    folder = run(
        tmp_path / "run", system=kind, rule=rule, hidden=(32,), epochs=12, lr=1e-2, **settings
    )
    assert folder.summary()["test_accuracy"] > (0.6 if kind == "sign-numpy-box" else 0.7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "bp"}, "nothing can be differentiated in a box"),
        ({"rule": "danp"}, "a box takes no products in front"),
        ({"rule": "np"}, "--rule np: nothing can be injected"),
        ({"rule": "mirrored", "sigma": 0.1}, "--sigma 0.1: nothing can be injected"),
        ({"device_preset": "pcm"}, "a box is a device by itself"),
        ({"noise_during": "training"}, "cannot be switched off"),
        ({"spread": -1.0}, "--spread -1 must be"),
        ({"box": "mine"}, "--box mine: numpy-box has no such part"),
        ({"system": "mlp", "rule": "pat"}, "mlp has no model apart from it"),
        ({"system": "mlp", "spread": 0.5}, "--spread 0.5: mlp has no such"),
        ({"system": "process-box", "box": "mine", "rule": "pat"}, "there is no model of --box"),
    ],
)
def test_settings_that_a_box_cannot_have_are_refused(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        config(**({"system": "numpy-box"} | settings))


def test_every_seed_of_a_suite_can_use_its_own_chip(tmp_path) -> None:
    suite = read_suite("chips").only(["LeakyReLU"], ["mirrored"])
    (entry,) = suite.entries
    first = next(schedule(suite, entry, tmp_path))
    assert {run.config.device_seed for run in first} == {0, 1}
    chips = [suite.seeded(entry.config, seed).device_seed for seed in suite.seeds]
    assert chips == [0, 1, 2, 3, 4]


def test_a_layer_without_noise_of_its_own_degrades_anp_with_a_warning() -> None:
    """Two noisy layers, then a read-out without noise: ANP fails, mirrored credit does not."""

    def loss(quiet: bool, rule: str, seed: int) -> float:
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        x = torch.randn(500, 8, generator=generator)
        y = torch.tanh(x @ torch.randn(8, 4, generator=generator))
        y = y @ torch.randn(4, 8, generator=generator)
        a, b, c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 8)
        one, two, three = (
            Noisy(layer, AdditiveGaussian(0.1, seed=i)) for i, layer in enumerate((a, b, c))
        )
        net = nn.Sequential(one, nn.Tanh(), two, nn.Tanh(), c if quiet else three)
        estimator = NodePerturbation(net, squared_error, rule, sigma=None)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.03)
        for _ in range(400):
            index = torch.randint(0, 500, (50,), generator=generator)
            optimiser.zero_grad()
            estimator(x[index], y[index])
            optimiser.step()
        with torch.no_grad():
            return float((net(x) - y).square().sum(1).mean())

    with pytest.warns(UserWarning, match=r"'4': no noise of its own.*use mirrored or learned"):
        quiet = [loss(True, "anp", seed) for seed in range(3)]
    noisy = [loss(False, "anp", seed) for seed in range(3)]
    mirrored = [loss(True, "mirrored", seed) for seed in range(3)]
    assert np.mean(quiet) > 2 * np.mean(noisy) and np.mean(mirrored) < np.mean(noisy)


def test_nengos_neurons_fire_at_the_rate_of_their_model() -> None:
    """Without noise, against the firing rate of Nengo's LIF model for a constant current."""
    nengo = pytest.importorskip("nengo")
    current = np.linspace(0.6, 4, 40, dtype=np.float32)
    w = [Weights(current[:, None], np.zeros(40, np.float32)), weights(40, 3)[0]]
    first, last = NengoBox((1, 40, 3), steps=2000, noise=0).run(w, np.ones((2, 1), "f"), 0).layers
    np.testing.assert_allclose(first.activities[1], 2 * current, rtol=1e-4)
    known = nengo.LIF(tau_rc=0.005, tau_ref=0.001).rates(current, gain=2, bias=0)[:, 0]
    np.testing.assert_allclose(last.inputs[1], 2 * 0.001 * known, atol=2e-3)


def test_nengo_is_trained_and_repeats_a_trial(tmp_path: Path) -> None:
    pytest.importorskip("nengo")
    settings = {"system": "nengo-box", "hidden": (16,), "lr": 2e-2, "epochs": 8}
    assert run(tmp_path / "run", **settings).summary()["test_accuracy"] > 0.6
    box = NengoBox((6, 8, 3), seed=1)
    first, again, other = (
        box.run(weights(6, 8, 3), inputs(5, 6), trial).layers[1].activities for trial in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    with pytest.raises(InputError, match="has no model"):
        build(config(system="nengo-box", rule="offline"))
