"""Kalman mirrors: a plain loop from the equations, commands, writes that differ from these."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.core.types import Node
from noisynets.rules.credit.kalman_mirror import KalmanMirror
from noisynets.rules.credit.mirror import Mirror
from noisynets.rules.kalman import CommandedMirror, commanded_mirror
from noisynets.rules.kolen_pollack import FollowingMirror
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.pulses import Pulsed, ThresholdSGD, varied
from noisynets.systems.pulses.presets import PULSED

# --- the equations -----------------------------------------------------------------------------


def loop(xs: list[np.ndarray], made: list[np.ndarray], changes: list[np.ndarray]) -> tuple:
    """M, P and κ after updates, each behind a commanded change; the equations in float64."""
    n, outputs = xs[0].shape[1], made[0].shape[1]
    M, D = np.zeros((outputs, n)), np.zeros((outputs, n))
    p = (made[0] ** 2).mean() / (xs[0] ** 2).sum(1).mean()
    P, kappa = p * np.eye(n), 0.1
    top = bottom = excess = weight = 0.0
    for x, a, change in zip(xs, made, changes, strict=True):
        M = M + change
        E = a - x @ M.T
        last = x @ D.T
        top = 0.9 * top + ((E + last) * last).sum()
        bottom = 0.9 * bottom + (last**2).sum()
        mu = min(max(top / bottom, 0.1), 10) if bottom > 0 else 1.0
        kappa = min(max(kappa * mu**0.3, 1e-6), 1e6)
        P = P + kappa * np.diag((change**2).mean(0))
        expected = np.mean([row @ P @ row for row in x])
        excess = 0.9 * excess + 0.1 * ((E**2).mean() - expected)
        weight = 0.9 * weight + 0.1
        R = max(excess / weight, 0.01 * expected)
        G = P @ x.T @ np.linalg.inv(x @ P @ x.T + R * np.eye(len(x)))
        D = (G @ E).T
        M, P = M + D, P - G @ x @ P
    return M, P, kappa


def drawn(steps: int, noise: float, moves: float) -> tuple:
    draw = np.random.default_rng(0)
    W, xs, made, changes = draw.normal(size=(4, 7)), [], [], []
    for step in range(steps):
        change = moves * draw.normal(size=(4, 7)) * bool(step)
        W = W + 0.7 * change  # the device makes less of it
        xs.append(draw.normal(size=(5, 7)))
        made.append(xs[-1] @ W.T + noise * draw.normal(size=(5, 4)))
        changes.append(change)
    return xs, made, changes


@pytest.mark.parametrize(("noise", "moves"), [(0.0, 0.0), (0.5, 0.0), (0.1, 0.2)])
def test_updates_are_those_of_a_plain_loop(noise, moves) -> None:
    xs, made, changes = drawn(40, noise, moves)
    mirror = KalmanMirror(nn.Linear(7, 4))
    for x, a, change in zip(*map(torch.tensor, map(np.array, (xs, made, changes))), strict=True):
        mirror.follow_(change)
        mirror.update_(x, x[None], a[None])
    M, P, kappa = loop(xs, made, changes)
    np.testing.assert_allclose(mirror.map, M, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(mirror.covariance, P, rtol=1e-6, atol=1e-9)
    assert float(mirror.state()["known"][4]) == pytest.approx(kappa, rel=1e-8)


def test_every_group_of_a_convolution_has_a_filter_of_its_own() -> None:
    """Each is that of a layer of one group that sees the same patches."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, groups=2).double()
    parts = [nn.Conv2d(2, 3, 3).double() for _ in range(2)]
    mirror, others = KalmanMirror(layer), [KalmanMirror(part) for part in parts]
    for _ in range(4):
        x, a = torch.randn(8, 4, 6, 6).double(), torch.randn(8, 6, 4, 4).double()
        mirror.update_(x, x[None], a[None])
        for i, other in enumerate(others):
            one = x[:, 2 * i : 2 * i + 2]
            other.update_(one, one[None], a[None, :, 3 * i : 3 * i + 3])
    for i, other in enumerate(others):
        torch.testing.assert_close(mirror.map[i], other.map)
        torch.testing.assert_close(mirror.covariance[i], other.covariance)


def test_without_noise_a_map_is_exact_once_its_rows_span_the_inputs() -> None:
    xs, made, changes = drawn(30, 0.0, 0.0)
    mirror = KalmanMirror(nn.Linear(7, 4))
    for x, a in zip(torch.tensor(np.array(xs)), torch.tensor(np.array(made)), strict=True):
        mirror.update_(x, x[None], a[None])
    W = np.linalg.lstsq(np.concatenate(xs), np.concatenate(made), rcond=None)[0].T
    np.testing.assert_allclose(mirror.map, W, atol=1e-3)


def test_measurements_that_are_not_finite_change_nothing() -> None:
    mirror, x = KalmanMirror(nn.Linear(7, 4)), torch.randn(20, 7)
    mirror.update_(x, x[None], torch.randn(1, 20, 4))
    before = mirror.state()
    mirror.update_(x, x[None], torch.full((1, 20, 4), torch.nan))
    after = mirror.state()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "n")


# --- commands ----------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_it_follows_better_than_both_other_mirrors(written, spread) -> None:
    """Of a command c, a device makes (written + spread z) c; rows are few and noisy.

    Where nothing of it is written on average, a mirror that does not take it over is better.
    """
    torch.manual_seed(0)
    layer, device = nn.Linear(60, 40, bias=False), torch.zeros(40, 60)
    maps = {"m": Mirror(layer), "kp": FollowingMirror(layer), "k": CommandedMirror(layer)}
    errors = dict.fromkeys(maps, 0.0)
    with torch.no_grad():
        device += layer.weight
        for step in range(400):
            x = torch.randn(16, 60)
            a = x @ device.T + 0.3 * torch.randn(16, 40)
            for name, each in maps.items():
                each.update_(x, x[None], a[None])
                errors[name] += float((each.map - device).square().mean()) * (step >= 100)
            command = 0.02 * torch.randn(40, 60)
            layer.weight += command
            device += (written + spread * torch.randn(40, 60)) * command
    assert errors["k"] < 0.95 * errors["kp"]
    assert (errors["k"] < 0.95 * errors["m"]) == (written > 0)


def test_of_pulsed_weights_the_commands_are_followed_and_nothing_is_read() -> None:
    """All pulses are lost; the map moves by what they were to write."""
    torch.manual_seed(0)
    layer = Pulsed(nn.Linear(6, 4), varied(PULSED["ecram"], endurance=1))
    layer.pulse_(torch.ones(4, 6))
    mirror = CommandedMirror(layer.layer, layer)
    x = torch.randn(40, 6)
    mirror.update_(x, x[None], torch.zeros(1, 40, 4))
    held, counts = layer.weight.clone(), torch.randint(-9, 9, (4, 6))
    layer.pulse_(counts)
    mirror(torch.zeros(40, 4), x)
    assert torch.equal(layer.weight, held), "every device is worn out"
    torch.testing.assert_close(mirror.map, counts * layer.step)
    outside = Noisy(layer, AdditiveGaussian(0.1))
    torch.testing.assert_close(outside.commanded, layer.target)
    assert Noisy(nn.Linear(2, 2), AdditiveGaussian(0.1)).commanded is None


def test_what_was_commanded_is_saved_and_states_without_it_are_read() -> None:
    layer = Pulsed(nn.Linear(6, 4), "reram-sb", device_seed=1, seed=2)
    layer.pulse_(torch.ones(4, 6))
    state = layer.state_dict()
    fresh = Pulsed(nn.Linear(6, 4), "reram-sb", device_seed=1, seed=2)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.target, layer.target) and not torch.equal(layer.target, layer.weight)
    fresh.load_state_dict({name: value for name, value in state.items() if name != "target"})
    assert torch.equal(fresh.target, layer.weight)


def test_norms_have_mirrors_that_follow_their_gains() -> None:
    norm = nn.LayerNorm(3)
    assert isinstance(commanded_mirror(Node("0", norm, norm, norm, norm)), FollowingMirror)


def test_a_saved_rule_continues_with_the_same_bits_on_pulsed_weights() -> None:
    torch.manual_seed(0)
    units = [nn.Tanh(), nn.Tanh()]
    layers = [Pulsed(nn.Linear(6, 6), "ecram", device_seed=i, seed=i) for i in range(3)]
    net = nn.Sequential(layers[0], units[0], layers[1], units[1], layers[2])
    made = NodePerturbation(net, squared_error, "kalman", sigma=0.1, seed=1)
    optimiser = ThresholdSGD(net, lr=0.5)
    x, y = torch.randn(30, 6), torch.randn(30, 6)

    def step(estimator, optimiser) -> None:
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()

    for _ in range(5):
        step(made, optimiser)
    other = NodePerturbation(copy.deepcopy(net), squared_error, "kalman", sigma=0.1, seed=1)
    other.restore({name: value.clone() for name, value in made.state().items()})
    again = ThresholdSGD(other.system, lr=0.5)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for _ in range(3):
        step(made, optimiser)
        step(other, again)
    found: list[tuple[Tensor, Tensor]] = list(
        zip(net.parameters(), other.system.parameters(), strict=True)
    )
    assert all(torch.equal(a, b) for a, b in found)
