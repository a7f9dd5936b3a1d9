"""Those who have a model of their box: what each way of using it does, against its equations."""

import pytest
import torch
from boxes import batch, system, weights
from tiny import config
from torch import nn

from noisynets import Backpropagation, cross_entropy
from noisynets.core.errors import InputError
from noisynets.run.session import build
from noisynets.systems.blackbox import (
    PERFECT,
    Aware,
    BlackBox,
    Distortions,
    NumpyChip,
    PhysicsAware,
    believed,
    tied,
)


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
