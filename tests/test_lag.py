"""How far mirrors lag behind, and how often pairs are made for it."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from noisynets import RULES, InputError, NodePerturbation, squared_error
from noisynets.estimators.methods import METHODS
from noisynets.estimators.settings import PerturbationSettings
from noisynets.rules.credit.lag import LONGEST, READ, LagSchedule
from noisynets.rules.credit.mirror import Maps, Mirror, mirror_of


def found(lag: float) -> SimpleNamespace:
    return SimpleNamespace(lag=torch.tensor(lag))


def lags(mirror: Mirror, wrong: float, noise: float, updates: int) -> torch.Tensor:
    """Update a mirror with rows of a layer whose weights have moved since each update before."""
    torch.manual_seed(0)
    layer, measured = mirror.layer.weight.detach().clone(), []
    for _ in range(updates):
        x = torch.randn(1, 64, layer.shape[1])
        a = x @ layer.T
        mirror.update_(x[0], x, a + noise * torch.randn_like(a))
        measured.append(mirror.lag)
        layer += wrong * torch.randn_like(layer) * layer.norm() / layer.numel() ** 0.5
    return torch.stack(measured[1:])


@pytest.mark.parametrize("wrong", [0.03, 0.1, 0.3])
def test_the_lag_is_the_squared_error_of_the_map(wrong: float) -> None:
    """More rows than inputs: an update sees the whole error, that of one random change."""
    measured = lags(Mirror(nn.Linear(16, 32)), wrong, noise=0.0, updates=40)
    assert float(measured[5:].mean()) == pytest.approx(wrong**2, rel=0.2)


def test_noise_of_its_own_is_no_lag() -> None:
    """Its squared error is that of the noise, 0.25; what an update explains of it has mean 0."""
    still = lags(Mirror(nn.Linear(16, 32)), wrong=0.0, noise=0.5, updates=200)
    moving = lags(Mirror(nn.Linear(16, 32)), wrong=0.2, noise=0.5, updates=200)
    assert float(still[20:].mean()) < 0.01
    assert float(moving[20:].mean()) > 3 * float(still[20:].mean())


def test_an_error_that_grows_with_the_squared_distance_is_held_at_the_tolerance() -> None:
    schedule = LagSchedule(tolerance=0.01, longest=100)
    speed, since, distances = 0.005, 0, []
    for _ in range(4000):
        since += 1
        if schedule.advance():
            schedule.observe(found((speed * since) ** 2))
            distances.append(since)
            since = 0
    assert distances[-10:] == [20] * 10  # (0.005 · 20)² = 0.01


def test_the_distance_stays_within_its_limits() -> None:
    schedule = LagSchedule()
    for lag, limit in ((1e3, 1.0), (-1e-9, LONGEST), (float("nan"), LONGEST)):
        for _ in range(20 * READ):
            schedule.observe(found(lag))
        assert schedule.distance == limit
    schedule.observe(Maps(mirror_of))  # none has learnt yet


@pytest.mark.parametrize("rule", [name for name, entry in RULES.items() if entry.traits.mirrors])
def test_weights_at_rest_need_few_pairs(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    settings = PerturbationSettings(sigma=0.01, pairs_every="auto")
    made = METHODS[rule].make(net, squared_error, settings)
    steps = [made(torch.randn(20, 6), torch.randn(20, 3)).sample_forwards for _ in range(400)]
    assert steps[:READ] == [40] * READ
    assert steps[200:].count(40) <= 200 / LONGEST + 1


def test_it_continues_with_the_same_bits_between_two_readings() -> None:
    def made() -> NodePerturbation:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        rule = RULES["mirrored"].make(0)
        rule.schedule = LagSchedule()
        return NodePerturbation(net, squared_error, rule)

    x, y = torch.randn(20, 6), torch.randn(20, 3)
    for before in (0, 1, READ + 1, 3 * READ + 2):
        first, second = made(), made()
        for _ in range(before):
            first(x, y)
        second.restore(copy.deepcopy(first.state()))
        for _ in range(20):
            assert first(x, y).sample_forwards == second(x, y).sample_forwards


def test_a_rule_without_mirrors_has_no_lag() -> None:
    settings = PerturbationSettings(pairs_every="auto")
    with pytest.raises(InputError, match="'learned' has no mirrors: give a number"):
        METHODS["learned"].make(nn.Linear(2, 1), squared_error, settings)
