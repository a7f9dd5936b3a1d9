"""Maps that take over what training does to the weights; nodes that stand still."""

import copy

import pytest
import torch
from cases import cosine, gradients
from torch import Tensor, nn

from noisynets import NodePerturbation, cross_entropy, squared_error
from noisynets.rules.credit.mirror import Mirror
from noisynets.rules.kolen_pollack import FollowingMirror
from noisynets.systems.devices import ADC, AdditiveGaussian, Noisy


def _of_nothing(layer: nn.Module, x: Tensor) -> tuple[FollowingMirror, Tensor]:
    """A mirror of a device that does nothing, and activities of its layer."""
    a, mirror = layer(x), FollowingMirror(layer)
    mirror.update_(x, x[None], torch.zeros_like(a)[None])
    return mirror, a


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(2, 4, 3), nn.Conv1d(2, 4, 3)])
def test_maps_take_over_the_change_of_the_weights_and_no_more(layer: nn.Module) -> None:
    """M after a change of W is M before + ΔW; where W began is not in it."""
    torch.manual_seed(0)
    shape = {nn.Linear: (6,), nn.Conv2d: (2, 5, 5), nn.Conv1d: (2, 9)}[type(layer)]
    x = torch.randn(40, *shape)
    with torch.no_grad():
        mirror, a = _of_nothing(layer, x)
        assert not mirror.map.any()
        change = torch.randn_like(layer.weight)
        layer.weight += change
        mirror(torch.zeros_like(a), x)
    torch.testing.assert_close(mirror.map, change.flatten(1))
    mirror(torch.zeros_like(a), x)
    torch.testing.assert_close(mirror.map, change.flatten(1))


def test_no_optimiser_changes_weights_unseen() -> None:
    """Fused ones change them without counting it as a version of the tensor."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(40, 6)
    with torch.no_grad():
        mirror, a = _of_nothing(layer, x)
        before = layer.weight.clone()
        layer.weight.grad = torch.randn(4, 6)
        torch.optim.Adam(layer.parameters(), lr=0.1, fused=True).step()
        mirror(torch.zeros_like(a), x)
    assert (layer.weight != before).all()
    torch.testing.assert_close(mirror.map, layer.weight.detach() - before)


def test_broken_weights_are_not_followed() -> None:
    """Once they are whole again, so is the map."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(40, 6)
    with torch.no_grad():
        mirror, a = _of_nothing(layer, x)
        before = layer.weight.clone()
        for weight in (torch.full_like(before, torch.nan), before + 1):
            layer.weight.copy_(weight)
            mirror(torch.zeros_like(a), x)
    torch.testing.assert_close(mirror.map, torch.ones(4, 6))


def test_maps_do_not_lag_behind_training() -> None:
    """Weights that move on in every step, and few noisy rows to learn from."""
    torch.manual_seed(0)
    layer = nn.Linear(60, 40, bias=False)
    drift = 0.01 * torch.randn(40, 60)
    maps = {Mirror: Mirror(layer), FollowingMirror: FollowingMirror(layer)}
    with torch.no_grad():
        for step in range(300):
            x = torch.randn(8, 60)
            a = layer(x) + 3 * torch.randn(8, 40)
            for mirror in maps.values():
                mirror.update_(x, x[None], a[None])
            if step > 100:
                layer.weight += drift
    true = layer.weight.detach()
    error = {kind: float((m.map - true).square().mean()) for kind, m in maps.items()}
    assert error[FollowingMirror] < error[Mirror] / 2


def _chip(reach: float) -> nn.Sequential:
    """Layers whose converters end at ±reach."""

    def layer(inputs: int, outputs: int, seed: int) -> nn.Module:
        return Noisy(nn.Linear(inputs, outputs), AdditiveGaussian(0.1, seed), ADC(8, reach))

    return nn.Sequential(
        layer(6, 30, 1), nn.LeakyReLU(0.2), layer(30, 30, 2), nn.LeakyReLU(0.2), layer(30, 3, 3)
    )


def test_nodes_at_the_end_of_their_converters_get_no_credit() -> None:
    """Where the second layer's activities are cut; elsewhere they keep what a mirror gives."""
    torch.manual_seed(0)
    net = _chip(reach=1.0)
    with torch.no_grad():
        net[2].layer.weight.mul_(8)
    estimator = NodePerturbation(net, squared_error, "kolen-pollack", sigma=None)
    for _ in range(150):
        estimator(torch.randn(64, 6), torch.randn(64, 3))
    found = estimator.credit(torch.randn(64, 6), torch.randn(64, 3))
    hidden = list(found.assigned.calls)[1]
    assert isinstance(hidden, Tensor)
    a = found.calls[1].a
    cut = a.abs() >= 0.99
    assert 0.2 < cut.float().mean() < 0.8
    assert float((hidden[cut] == 0).float().mean()) > 0.99
    assert float((hidden[~cut] == 0).float().mean()) < 0.05


def test_where_nothing_ends_all_nodes_keep_their_credit() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    estimator = NodePerturbation(net, squared_error, "kolen-pollack", sigma=1e-2)
    for _ in range(100):
        estimator(torch.randn(64, 6), torch.randn(64, 3))
    found = estimator.credit(torch.randn(64, 6), torch.randn(64, 3))
    for credit in found.assigned.calls:
        assert isinstance(credit, Tensor) and float((credit == 0).float().mean()) < 0.01


def test_credit_is_the_gradient_while_weights_move() -> None:
    """Cosine in every layer, at a rate at which weights move faster than mirrors learn."""
    found = {}
    for rule in ("mirrored", "kolen-pollack"):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(20, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 5)
        )
        estimator = NodePerturbation(net, cross_entropy, rule, sigma=1e-2)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
        teacher = torch.randn(20, 5)
        for _ in range(300):
            x = torch.randn(20, 20)
            optimiser.zero_grad()
            estimator(x, (x @ teacher).argmax(1))
            optimiser.step()
        x = torch.randn(500, 20)
        y = (x @ teacher).argmax(1)
        net.zero_grad()
        estimator(x, y)
        own = gradients(net)
        net.zero_grad()
        cross_entropy(net(x), y).mean().backward()
        true = gradients(net)
        found[rule] = [cosine(own[n], true[n]) for n in ("0.weight", "2.weight", "4.weight")]
    assert min(found["kolen-pollack"]) > 0.98
    assert found["kolen-pollack"][0] > found["mirrored"][0] - 1e-3


def test_a_stopped_run_takes_over_the_last_change_too() -> None:
    """State is saved between a step of the weights and the next estimate."""
    torch.manual_seed(0)
    net = _chip(reach=2.0)
    estimator = NodePerturbation(net, squared_error, "kolen-pollack", sigma=None)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    x, y = torch.randn(30, 6), torch.randn(30, 3)
    for _ in range(5):
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()
    fresh = NodePerturbation(copy.deepcopy(net), squared_error, "kolen-pollack", sigma=None)
    fresh.restore({name: value.clone() for name, value in estimator.state().items()})
    for one in (estimator, fresh):
        one.system.zero_grad()
        one(x, y)
    for p, q in zip(estimator.system.parameters(), fresh.system.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
