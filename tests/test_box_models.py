"""Training with a model of the box: each method against its equations."""

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
    BlackBox,
    Distortions,
    HardwareAware,
    NumpyChip,
    PhysicsAware,
    box_model,
    tie_weights,
)


def gradients(system: nn.Module, parameters) -> list[torch.Tensor]:
    for p in parameters:
        p.grad = None
    Backpropagation(system, cross_entropy)(*batch())
    return [p.grad.clone() for p in parameters]


def test_on_a_perfect_chip_every_method_is_backpropagation() -> None:
    box = system(PERFECT)
    box.expected = PERFECT
    parameters = list(box.parameters())
    net = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3))
    net.load_state_dict(box_model(box).state_dict())
    expected = gradients(net, list(net.parameters()))
    for method in (
        box_model(box),
        HardwareAware(box),
        HardwareAware(box, node_distortions=True),
        PhysicsAware(box),
    ):
        for found, known in zip(gradients(method, parameters), expected, strict=True):
            torch.testing.assert_close(found, known, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("saturation", [False, True])
def test_physics_aware_training_uses_measured_values_and_the_models_derivatives(saturation) -> None:
    """Against the equations, written out for two layers; some activities are saturated."""
    distortions = Distortions(drift=0.0, bound=1.0)
    box = system(distortions, seed=3)
    x, y = batch()
    layers, _ = NumpyChip((6, 8, 3), distortions, seed=3).run(weights(6, 8, 3), x.numpy(), 0)
    a1, h1, a2 = (torch.from_numpy(t) for t in (layers[0][1], layers[1][0], layers[1][1]))
    assert 0 < (a1.abs() == 1).float().mean() < 1 and 0 < (a2.abs() == 1).float().mean() < 1
    inside = [a.abs() < 1 if saturation else torch.ones_like(a) for a in (a1, a2)]
    e = (a2.softmax(1) - nn.functional.one_hot(y, 3)) / len(y) * inside[1]
    w2 = box.box_layers[1].weight.detach()
    credit = e @ w2 * torch.where(a1 > 0, 1.0, 0.2) * inside[0]
    found = gradients(PhysicsAware(box, saturation), list(box.parameters()))
    for one, known in zip(found, (credit.T @ x, credit.sum(0), e.T @ h1, e.sum(0)), strict=True):
        torch.testing.assert_close(one, known, atol=1e-6, rtol=1e-4)


def test_hardware_aware_training_draws_new_distortions_in_every_pass() -> None:
    box = system()
    clean, spreads = box_model(box)(batch()[0]).detach(), []
    for node_distortions in (False, True):
        aware = HardwareAware(box, node_distortions, seed=1)
        outputs = torch.stack([aware(batch()[0]).detach() for _ in range(300)])
        assert outputs.std(0).min() > 0.1
        assert (outputs.mean(0) - clean).abs().max() < 0.35  # gains have a mean above 1
        spreads.append(outputs.std(0).mean())
    assert spreads[1] > 1.2 * spreads[0]
    assert torch.equal(box_model(box)(batch()[0]), clean)  # no hook is left


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"\(4, 6\), \(3, 4\) where the box has \(8, 6\), \(3, 8\)"
    ):
        wrong = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 3))
        BlackBox(NumpyChip((6, 8, 3)), lambda box_layers: tie_weights(wrong, box_layers))
    with pytest.raises(InputError, match="has no model"):
        box_model(BlackBox(NumpyChip((6, 8, 3))))
    spiking = build(config(system="lif-numpy-box", rule="offline"))
    with pytest.raises(InputError, match="the box reports only means"):
        PhysicsAware(spiking.system)(torch.ones(2, 16))
