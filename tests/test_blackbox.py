"""Boxes: chips against networks of torch, the contract, processes that die, and what learns."""

import copy
import io
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tiny import TASK, config, final, run, same
from torch import nn

from noisynets import Backpropagation, NodePerturbation, cli, cross_entropy, squared_error
from noisynets.bench import read_suite
from noisynets.bench.run import course
from noisynets.blackbox import (
    PERFECT,
    Aware,
    BlackBox,
    BoxFailed,
    Distortions,
    Layer,
    Measured,
    NengoBox,
    NumpyChip,
    PhysicsAware,
    ProcessBox,
    Reading,
    Socket,
    SpikingChip,
    Weights,
    believed,
    examine,
    frames,
    tied,
)
from noisynets.blackbox.tiles import Tiles
from noisynets.data import TASKS
from noisynets.devices import AdditiveGaussian, Noisy
from noisynets.errors import InputError, SystemRefused
from noisynets.run_folder import create
from noisynets.session import build
from noisynets.spiking import Leaky, MeanMembrane, Spiking
from noisynets.train import train

BOXES = ("numpy-box", "sign-numpy-box", "lif-numpy-box")
SERVE = [sys.executable, "-m", "noisynets.blackbox.serve", "--widths"]


@pytest.fixture(autouse=True)
def tiny_task(monkeypatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", TASK)


def weights(*widths: int, seed: int = 0) -> list[Weights]:
    rng = np.random.default_rng(seed)
    return [
        Weights(
            (rng.standard_normal((m, n)) / n**0.5).astype(np.float32),
            (0.1 * rng.standard_normal(m)).astype(np.float32),
        )
        for n, m in zip(widths, widths[1:], strict=False)
    ]


def inputs(rows: int, n: int) -> np.ndarray:
    return np.random.default_rng(5).random((rows, n), dtype=np.float32)


def system(distortions: Distortions | None = None, **settings) -> BlackBox:
    """A chip 6-8-3 whose owner believes it to be a perceptron."""
    box = NumpyChip((6, 8, 3), distortions, **settings)

    def model(sockets):
        return tied(nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)), sockets)

    found = BlackBox(box, model, distortions)
    for socket, (w, b) in zip(found.sockets, weights(6, 8, 3), strict=True):
        with torch.no_grad():
            socket.weight.copy_(torch.from_numpy(w))
            socket.bias.copy_(torch.from_numpy(b))
    return found


def batch(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(inputs(n, 6))
    return x, (x[:, :3] * 3).long().sum(1) % 3


# --- chips --------------------------------------------------------------------------------------


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


def test_distortions_are_what_they_are_called() -> None:
    d = Distortions(0.3, 0.05, 0.2, 0.4, bits=0, read_noise=0.1, drift=0.05)
    tiles = Tiles([Layer(300, 200)], d, chip=1)
    w = [Weights(np.ones((200, 300), np.float32), np.zeros(200, np.float32))]
    (held,) = tiles.programmed(w, trial=0)
    assert (held.weight == 0).mean() == pytest.approx(0.05, abs=0.005)
    assert held.weight[held.weight != 0].std() == pytest.approx(0.3, rel=0.03)
    (later,) = tiles.programmed(w, trial=3000)
    np.testing.assert_allclose(later.weight, held.weight * 4**-0.05, rtol=1e-5)
    noise = np.random.default_rng(0)
    zero = np.stack([tiles.activity(0, np.zeros((400, 200), np.float32), noise) for _ in range(5)])
    assert zero.reshape(-1, 200).std(0).mean() == pytest.approx(0.1, rel=0.02)
    assert zero.reshape(-1, 200).mean(0).std() == pytest.approx(0.4, rel=0.15)
    one = np.stack([tiles.activity(0, np.ones((400, 200), np.float32), noise) for _ in range(5)])
    gains = (one - zero).reshape(-1, 200).mean(0)
    assert (gains > 0).all() and np.log(gains).std() == pytest.approx(0.2, rel=0.2)


def test_converters_have_as_many_levels_as_bits_and_clip() -> None:
    tiles = Tiles([Layer(1, 1)], Distortions(0, 0, 0, 0, bits=4, reach=2.0, read_noise=0), chip=0)
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


# --- the contract -------------------------------------------------------------------------------


class Broken:
    """A chip whose reading is changed before it is handed out."""

    def __init__(self, change) -> None:
        self.chip, self.change = NumpyChip((6, 8, 3)), change
        self.layers = self.chip.layers

    def run(self, weights, x, trial):
        return self.change(self.chip.run(weights, x, trial))


def nan_in_layer_1(reading: Reading) -> Reading:
    reading.layers[1].activities[3, 2] = np.nan
    return reading


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: Reading(r.layers[:1]), "1 layers were measured where the box has 2"),
        (
            lambda r: Reading([r.layers[0], Measured(r.layers[1].inputs[:, :5], r.layers[1][1])]),
            r"layer 1: inputs of shape \(40, 5\) where \(40, 8\) was expected",
        ),
        (nan_in_layer_1, "layer 1: activities: nan in row 3, column 2"),
        (lambda r: Reading(r.layers, np.zeros((40, 4))), r"output of shape \(40, 4\)"),
    ],
)
def test_a_breach_of_the_contract_is_named(change, words) -> None:
    with pytest.raises(BoxFailed, match=words):
        BlackBox(Broken(change))(batch()[0])


def test_nothing_can_be_injected_differentiated_or_put_in_front() -> None:
    box = system()
    with pytest.raises(SystemRefused, match="nothing can be injected"):
        NodePerturbation(box, cross_entropy, "mirrored", sigma=0.1)
    assert not box(batch()[0]).requires_grad
    box.layers[0] = Noisy(box.layers[0], AdditiveGaussian(0.1))
    with pytest.raises(SystemRefused, match="cannot be wrapped"):
        box(batch()[0])
    with pytest.raises(SystemRefused, match="call the whole box"):
        Socket(2, 3)(torch.ones(1, 2))


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "learned", "innovation", "dfa"])
def test_no_weights_are_read(rule) -> None:
    """A box that goes by weights of its own: whatever the sockets hold, credit is the same."""

    class Stubborn:
        chip = NumpyChip((6, 8, 3))
        layers = chip.layers

        def run(self, given, x, trial):
            return self.chip.run(weights(6, 8, 3, seed=9), x, trial)

    gradients = []
    for scale in (1.0, 100.0):
        box = BlackBox(Stubborn())
        for socket in box.sockets:
            nn.init.constant_(socket.weight, scale)
            nn.init.constant_(socket.bias, scale)
        estimator = NodePerturbation(box, cross_entropy, rule, sigma=None)
        for _ in range(3):
            estimator(*batch())
        gradients.append([p.grad for p in box.parameters()])
    assert all(torch.equal(a, b) and bool(a.any()) for a, b in zip(*gradients, strict=True))


def test_trials_are_counted_in_the_state_and_copies_go_their_own_way() -> None:
    box = system()
    for _ in range(3):
        box(batch()[0])
    twin, restored = copy.deepcopy(box), system()
    restored.load_state_dict(box.state_dict())
    outputs = [one(batch()[0]) for one in (box, twin, restored)]
    assert box.trials == 4 and torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(box(batch()[0]), outputs[0])


def stuck(reading: Reading) -> Reading:
    """Noise that all rows share."""
    for seen in reading.layers:
        shared = np.random.default_rng(int(1e6 * abs(seen.activities[0, 0]))).standard_normal()
        seen.activities[:] = seen.activities.round(0) + np.float32(shared)
    return reading


class Deaf(Broken):
    """Goes by weights of its own in layer 1."""

    def run(self, given, x, trial):
        return self.chip.run([given[0], weights(8, 3)[0]], x, trial)


def chained_wrongly() -> Broken:
    box = Broken(lambda reading: reading)
    box.layers = [Layer(6, 8), Layer(7, 3)]
    return box


def other_inputs(reading: Reading) -> Reading:
    first = reading.layers[0]
    return Reading([Measured(1 - first.inputs, first.activities), *reading.layers[1:]])


def at_an_end(reading: Reading) -> Reading:
    reading.layers[0].activities[:] = reading.layers[0].activities.clip(-0.1, 0.1)
    return reading


@pytest.mark.parametrize(
    ("box", "grade", "words"),
    [
        (chained_wrongly(), "failed", "layer 0 has 8 outputs, and layer 1 7 inputs"),
        (Broken(lambda r: Reading(r.layers[:1])), "failed", "1 layers were measured"),
        (NumpyChip((6, 8, 3), Distortions(read_noise=0)), "failed", "gave the same activities"),
        (Broken(stuck), "failed", "noise is the same in many rows"),
        (Deaf(None), "failed", "layer 1: other weights change no more"),
        (Broken(other_inputs), "failed", "layer 0 sees inputs whose correlation .* is -1.00"),
        (Broken(at_an_end), "note", "layer 0: .*% of the activities at an end of their range"),
    ],
)
def test_what_is_wrong_with_a_box_is_found(box, grade, words) -> None:
    found = [f.what for f in examine(box) if f.grade == grade]
    assert any(re.search(words, what) for what in found), found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", [NumpyChip, SpikingChip])
def test_nothing_is_found_with_a_sound_box(kind, seed) -> None:
    assert {f.grade for f in examine(kind((20, 16, 4), chip=seed, seed=seed), seed=seed)} == {"ok"}


def test_boxes_are_checked_on_the_command_line(capsys) -> None:
    cli.main(["check-box", "lif-numpy-box", "--rows", "20"])
    assert "failed" not in capsys.readouterr().out
    for command, words in (
        ([*SERVE, "5", "3", "--read-noise", "0"], "cannot be trained as it is"),
        (["no-such-program"], "cannot be started"),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(["check-box", shlex.join(command)])
        assert error.value.code == 2 and words in capsys.readouterr().err


# --- those who have a model ---------------------------------------------------------------------


def gradients(system: nn.Module, parameters) -> list[torch.Tensor]:
    for p in parameters:
        p.grad = None
    Backpropagation(system, cross_entropy)(*batch())
    return [p.grad.clone() for p in parameters]


def test_on_a_perfect_chip_all_ways_are_backpropagation() -> None:
    box = system(PERFECT)
    box.expected = PERFECT
    parameters = list(box.parameters())
    net = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3))
    net.load_state_dict(believed(box).state_dict())
    expected = gradients(net, list(net.parameters()))
    for way in (believed(box), Aware(box), Aware(box, nodes=True), PhysicsAware(box)):
        for found, known in zip(gradients(way, parameters), expected, strict=True):
            torch.testing.assert_close(found, known, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("ends", [False, True])
def test_physics_aware_training_takes_values_from_the_chip_and_slopes_from_the_model(ends) -> None:
    """Against the equations, written out for two layers; some activities are at the ends."""
    distortions = Distortions(drift=0.0, reach=1.0)
    box = system(distortions, seed=3)
    x, y = batch()
    layers, _ = NumpyChip((6, 8, 3), distortions, seed=3).run(weights(6, 8, 3), x.numpy(), 0)
    a1, h1, a2 = (torch.from_numpy(t) for t in (layers[0][1], layers[1][0], layers[1][1]))
    assert 0 < (a1.abs() == 1).float().mean() < 1 and 0 < (a2.abs() == 1).float().mean() < 1
    inside = [a.abs() < 1 if ends else torch.ones_like(a) for a in (a1, a2)]
    e = (a2.softmax(1) - nn.functional.one_hot(y, 3)) / len(y) * inside[1]
    w2 = box.sockets[1].weight.detach()
    credit = e @ w2 * torch.where(a1 > 0, 1.0, 0.2) * inside[0]
    found = gradients(PhysicsAware(box, ends), list(box.parameters()))
    for one, known in zip(found, (credit.T @ x, credit.sum(0), e.T @ h1, e.sum(0)), strict=True):
        torch.testing.assert_close(one, known, atol=1e-6, rtol=1e-4)


def test_hardware_aware_training_draws_its_distortions_anew() -> None:
    box = system()
    clean, spreads = believed(box)(batch()[0]).detach(), []
    for nodes in (False, True):
        aware = Aware(box, nodes, seed=1)
        outputs = torch.stack([aware(batch()[0]).detach() for _ in range(300)])
        assert outputs.std(0).min() > 0.1
        assert (outputs.mean(0) - clean).abs().max() < 0.35  # gains have a mean above 1
        spreads.append(outputs.std(0).mean())
    assert spreads[1] > 1.2 * spreads[0]
    assert not any(layer._forward_hooks for layer in believed(box).modules())


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"\(4, 6\), \(3, 4\) where the box has \(8, 6\), \(3, 8\)"
    ):
        wrong = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
        BlackBox(NumpyChip((6, 8, 3)), lambda sockets: tied(wrong, sockets))
    with pytest.raises(InputError, match="has no model"):
        believed(BlackBox(NumpyChip((6, 8, 3))))
    spiking = build(config(system="lif-numpy-box", rule="offline"))
    with pytest.raises(InputError, match="the box reports means"):
        PhysicsAware(spiking.system)(torch.ones(2, 16))


# --- learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("rule", ["mirrored", "learned", "pat", "offline"])
def test_boxes_learn(kind, rule, tmp_path) -> None:
    if (kind, rule) == ("lif-numpy-box", "pat"):
        pytest.skip("its model lives in time")
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
        ({"box": "mine"}, "--box mine: numpy-box has no such units"),
        ({"system": "mlp", "rule": "pat"}, "mlp is no box with a model"),
        ({"system": "mlp", "spread": 0.5}, "--spread 0.5: mlp has no such"),
        ({"system": "process-box", "box": "mine", "rule": "pat"}, "nobody has a model of --box"),
    ],
)
def test_what_a_box_cannot_do_is_refused(settings, words) -> None:
    with pytest.raises(InputError, match=words):
        config(**({"system": "numpy-box"} | settings))


def test_every_seed_of_a_suite_can_have_a_chip_of_its_own(tmp_path) -> None:
    suite = read_suite("chips").only(["LeakyReLU"], ["mirrored"])
    (entry,) = suite.entries
    first = next(course(suite, entry, tmp_path))
    assert {run.config.device_seed for run in first} == {0, 1}
    chips = [suite.seeded(entry.config, seed).device_seed for seed in suite.seeds]
    assert chips == [0, 1, 2, 3, 4]


def test_a_layer_without_noise_of_its_own_spoils_anp_and_says_so() -> None:
    """Two noisy boxes in a row, then a read-out: the losses of the trap, and its cure."""

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


# --- a simulator that no one here wrote ----------------------------------------------------------


def test_nengos_neurons_fire_as_its_own_rates_say() -> None:
    """Without noise, against the rate that Nengo's LIF has for a constant current."""
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


# --- processes ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text("abcxyz0123456789", min_size=1),
        hnp.arrays(
            st.sampled_from([np.float32, np.int64]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0),
        ),
        max_size=4,
    ),
    st.integers(0, 2000),
)
def test_messages_come_through_whole_or_not_at_all(arrays, cut) -> None:
    stream = io.BytesIO()
    frames.write(stream, arrays)
    whole = stream.getvalue()
    found = frames.read(io.BytesIO(whole))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert frames.read(io.BytesIO(whole[: min(cut, len(whole) - 1)])) is None


def test_a_process_gives_the_bits_of_the_chip_that_it_holds() -> None:
    box = ProcessBox([*SERVE, "5", "7", "3", "--unit", "lif"])
    w, x = weights(5, 7, 3), inputs(20, 5)
    for trial in range(2):
        theirs, ours = box.run(w, x, trial), SpikingChip((5, 7, 3)).run(w, x, trial)
        np.testing.assert_array_equal(theirs.output, ours.output)
        for a, b in zip(theirs.layers, ours.layers, strict=True):
            np.testing.assert_array_equal(a.inputs, b.inputs)
            np.testing.assert_array_equal(a.activities, b.activities)
    box.close()


OWN = """
import io, os, struct, sys, time
from pathlib import Path
import numpy as np

def write(**arrays):
    body = io.BytesIO()
    np.savez(body, **arrays)
    sys.stdout.buffer.write(struct.pack("<Q", len(body.getvalue())) + body.getvalue())
    sys.stdout.buffer.flush()

write(layers=np.array([[16, 8], [8, 3]]))
while head := sys.stdin.buffer.read(8):
    asked = np.load(io.BytesIO(sys.stdin.buffer.read(struct.unpack("<Q", head)[0])))
    trial, x, answer = int(asked["trial"]), asked["x"], {}
    noise, mood = np.random.default_rng(trial), Path(sys.argv[1])
    word = mood.read_text() if trial == 5 and mood.exists() else ""
    if word == "crash":
        print("the supply broke down", file=sys.stderr, flush=True)
        os._exit(7)
    if word == "sleep":
        time.sleep(60)
    if word == "say":
        write(error=np.array("too hot"))
        continue
    for i in range(2):
        a = x @ asked[f"weight{i}"].T + asked[f"bias{i}"]
        a = a + 0.1 * noise.standard_normal(a.shape, dtype=np.float32)
        answer |= {f"inputs{i}": x, f"activities{i}": a}
        x = np.maximum(a, 0)
    write(**answer)
"""
"""A box that knows nothing of noisynets: its side of the pipes, as docs/blackbox.md has it."""


@pytest.fixture
def own(tmp_path: Path) -> tuple[dict[str, object], Path]:
    """Settings of a run on that box, and the file that decides its mood."""
    script, mood = tmp_path / "own.py", tmp_path / "mood"
    script.write_text(OWN)
    command = shlex.join([sys.executable, str(script), str(mood)])
    return {"system": "process-box", "epochs": 2, "box": command}, mood


def test_killing_the_process_ten_times_changes_nothing_but_time(own, tmp_path, monkeypatch) -> None:
    settings, _ = own
    whole = final(run(tmp_path / "whole", **settings))
    kills, ask = [], ProcessBox.run

    def killing(self: ProcessBox, weights, x, trial: int) -> Reading:
        if trial % 3 == 1 and len(kills) < 10:
            os.kill(self._process._popen.pid, signal.SIGKILL)
            kills.append(trial)
        return ask(self, weights, x, trial)

    monkeypatch.setattr(ProcessBox, "run", killing)
    assert same(final(run(tmp_path / "killed", **settings)), whole)
    assert len(kills) == 10


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("crash", r"ended with status 7 \(2 times\); it said: the supply broke down"),
        ("sleep", r"no answer in 1 s \(2 times\)"),
        ("say", "trial 5 .*: too hot"),
    ],
)
def test_a_box_that_stops_loses_nothing_of_the_run(mood, words, own, tmp_path, monkeypatch) -> None:
    settings, file = own
    start = ProcessBox.__init__

    def impatient(self, command, **settings) -> None:
        start(self, command, timeout=1.0, retries=1)

    monkeypatch.setattr(ProcessBox, "__init__", impatient)
    whole = final(run(tmp_path / "whole", **settings))
    file.write_text(mood)
    folder = create(tmp_path / "stopped", config(**settings))
    with pytest.raises(BoxFailed, match=f"{words}.*; then: noisynets resume"):
        train(folder, progress_bar=False)
    file.unlink()
    train(folder, progress_bar=False)
    assert same(final(folder), whole)


def test_what_a_box_prints_is_no_message() -> None:
    code = (
        "from noisynets.blackbox import NumpyChip, serve\n"
        "class Talks(NumpyChip):\n"
        "    def run(self, *asked):\n"
        "        print('a hundred words' * 10)\n"
        "        return super().run(*asked)\n"
        "serve(Talks((5, 3)))"
    )
    box = ProcessBox([sys.executable, "-c", code])
    assert box.run(weights(5, 3), inputs(4, 5), 0).layers[0].activities.shape == (4, 3)
    box.close()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "cannot be started"),
        ([sys.executable, "-c", "raise SystemExit('no chip')"], "status 1 .*it said: no chip"),
        ([sys.executable, "-c", "print('hello there, who are you')"], "cannot be read"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "no answer in 1 s"),
    ],
)
def test_what_is_no_box_is_named(command, words) -> None:
    with pytest.raises(BoxFailed, match=words):
        ProcessBox(command, timeout=1.0, retries=1)


def test_the_widths_of_a_box_must_fit() -> None:
    box = " ".join([*SERVE, "16", "5", "3"])
    with pytest.raises(InputError, match="16-5-3 where .* make 16-8-3: give --hidden 5"):
        build(config(system="process-box", box=box))
