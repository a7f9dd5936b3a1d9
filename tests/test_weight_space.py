"""The weight-space baselines against plain loops and autograd."""

import pytest
import torch
from cases import Replay, cosine, flat, gradients, regression_batch, smooth_mlp
from reference import forward, loss, silence
from torch import nn

from noisynets import (
    SPSA,
    AdditiveGaussian,
    Backpropagation,
    InputError,
    Noisy,
    SystemRefused,
    WeightPerturbation,
    decorrelate,
    squared_error,
)


def setup():
    generator = torch.Generator().manual_seed(0)
    net = smooth_mlp(generator)
    return net, *regression_batch(generator, (4,), 3)


def mean_loss(theta, x, y) -> float:
    """Mean loss of a tanh network with weights and biases `theta`, by loops."""
    layers = [
        (W.tolist(), b.tolist(), torch.eye(W.shape[1]).tolist())
        for W, b in zip(theta[::2], theta[1::2], strict=True)
    ]
    losses = [
        loss(forward(layers, s, silence(layers))[2], t)
        for s, t in zip(x.tolist(), y.tolist(), strict=True)
    ]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", [WeightPerturbation, SPSA])
@pytest.mark.parametrize("K", [1, 3])
def test_agrees_with_plain_loops(kind, K: int) -> None:
    net, x, y = setup()
    noise, sigma = Replay(), 0.05
    kind(net, squared_error, sigma=sigma, resamples=K, noise=noise)(x, y)
    found = list(gradients(net).values())
    theta = [p.detach() for p in net.parameters()]
    expected = [torch.zeros_like(p) for p in theta]
    for k in range(K):
        xi = [sigma * z for z in noise.kept[k * len(theta) : (k + 1) * len(theta)]]
        up = mean_loss([p + v for p, v in zip(theta, xi, strict=True)], x, y)
        if kind is SPSA:
            down = mean_loss([p - v for p, v in zip(theta, xi, strict=True)], x, y)
            slope = (up - down) / 2
        else:
            slope = up - mean_loss(theta, x, y)
        for e, v in zip(expected, xi, strict=True):
            e += slope * v / sigma**2 / K
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [WeightPerturbation, SPSA])
def test_mean_is_the_gradient_and_weights_stay(kind) -> None:
    net, x, y = setup()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    Backpropagation(net, squared_error)(x, y)
    truth = gradients(net)
    kind(net, squared_error, sigma=1e-4, resamples=10_000)(x, y)
    assert cosine(flat(gradients(net)), flat(truth)) > 0.99
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_passes_are_counted_and_decorrelation_is_refused() -> None:
    net, x, y = setup()
    assert WeightPerturbation(net, squared_error, resamples=3)(x, y).sample_forwards == 4 * 3
    assert SPSA(net, squared_error, resamples=3)(x, y).sample_forwards == 6 * 3
    with pytest.raises(SystemRefused, match="decorrelated"):
        SPSA(decorrelate(net), squared_error)


def test_frozen_parameters_are_not_perturbed() -> None:
    net, x, y = setup()
    net[0].requires_grad_(False)
    SPSA(net, squared_error)(x, y)
    assert set(gradients(net)) == {"2.weight", "2.bias"}


def test_trains_a_system_in_its_own_noise() -> None:
    net = nn.Sequential(Noisy(nn.Linear(4, 3), AdditiveGaussian(0.1)))
    x, y = torch.randn(50, 4), torch.randn(50, 3)
    estimate = SPSA(net, squared_error, sigma=0.1, resamples=4)(x, y)
    assert estimate.sample_forwards == 400 and net[0].layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [WeightPerturbation, SPSA])
def test_bad_settings_are_refused(kind) -> None:
    net = nn.Linear(2, 2)
    for settings in ({"sigma": 0.0}, {"sigma": 1e-9}, {"resamples": 0}, {"noise": "gausian"}):
        with pytest.raises(InputError):
            kind(net, squared_error, **settings)
