"""What pairs teach: mirrors, gates and learned maps, against what is true; nothing diverges."""

import math

import pytest
import torch
from cases import cosine, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.rules.credit.direct import DirectFeedback
from noisynets.rules.credit.direct_maps import DirectMaps, LearnedMap
from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.mirror import Mirror
from noisynets.systems.devices import AdditiveGaussian, GainOffset, Noisy, WeightSpread
from noisynets.systems.units import Sign


class Triangle(nn.Module):
    """Rises from −1 to 0.3 and falls beyond: a unit that nobody has a name for."""

    def forward(self, a: Tensor) -> Tensor:
        return (1.3 - (a - 0.3).abs()).clamp_min(0)


def _mlp(unit, noise: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 24), unit(), nn.Linear(24, 24), unit(), nn.Linear(24, 3))
    if noise:
        for i in (0, 2, 4):
            net[i] = Noisy(net[i], AdditiveGaussian(noise, seed=i))
    return net


def _taught(net: nn.Module, rule: str, steps: int, sigma: float | None = 0.05, K: int = 1):
    """Gradients of the last of many steps on new data, the weights fixed, and the data."""
    estimator = NodePerturbation(net, squared_error, rule, sigma=sigma, resamples=K)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(100, 10, generator=generator)
        y = torch.stack([x[:, 0], x[:, 1] * x[:, 2], x.mean(1)], 1)
        net.zero_grad()
        estimator(x, y)
    return gradients(net), x, y


@pytest.mark.parametrize("unit", [nn.LeakyReLU, nn.Tanh, Triangle])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_mirrored_credit_becomes_the_gradient(unit, noise: float) -> None:
    """Fixed weights, 1,000 pairs of 100, any unit: cosine above 0.95, in its own noise 0.9."""
    net = _mlp(unit, noise)
    found, x, y = _taught(net, "mirrored", 1000, None if noise else 0.05)
    squared_error(net(x), y).mean().backward()
    for name, true in gradients(net).items():
        if name.endswith("weight"):
            assert cosine(found[name], true) > (0.9 if noise else 0.95), name


def test_learned_credit_is_aligned_with_the_gradient() -> None:
    """Fixed weights, 1,000 pairs of 100: the best linear feedback from the error, cosine > 0.5."""
    for noise in (0.0, 0.05):
        net = _mlp(nn.Tanh, noise)
        found, x, y = _taught(net, "learned", 1000, None if noise else 0.05)
        squared_error(net(x), y).mean().backward()
        for name, true in gradients(net).items():
            assert cosine(found[name], true) > (0.5 if name[0] != "4" else 0.95), name


def test_a_mirror_fits_what_the_device_makes_of_the_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 10)
    node = Noisy(layer, WeightSpread(0.5, 1), GainOffset(0.5, 0.5, device_seed=2))
    mirror = Mirror(layer)
    for _ in range(500):
        x, shift = torch.randn(2, 64, 20)
        with torch.no_grad():
            mirror.update_(x, shift[None], (node(x + shift) - node(x))[None])
    real = node(torch.eye(20)) - node(torch.zeros(20, 20))
    torch.testing.assert_close(mirror.map, real.T.detach(), rtol=1e-2, atol=1e-3)
    assert cosine(mirror.map, layer.weight.detach()) < 0.95


@pytest.mark.parametrize("unit", [nn.LeakyReLU(0.1), nn.Tanh(), Triangle(), Sign()])
def test_a_gate_measures_the_mean_slope_over_a_bin(unit: nn.Module) -> None:
    """Against E[(f(a + d) − f(a)) d]/E[d²] in the middle of the bins, within 0.1."""
    torch.manual_seed(0)
    gate = Gate(bins=64, forgetting=0.005, rows=1000)
    for _ in range(500):
        a, shift = torch.randn(100, 50), 0.3 * torch.randn(100, 50)
        gate.update_(a, shift, unit(a + shift) - unit(a))
    a = torch.linspace(-1.4375, 1.4375, 24)
    d = 0.3 * torch.randn(20_000, 1)
    expected = ((unit(a + d) - unit(a)) * d).mean(0) / d.square().mean()
    assert (gate(a) - expected).abs().max() < 0.1


@settings(max_examples=60, deadline=None)
@given(
    n_in=st.integers(1, 40),
    n_out=st.integers(1, 20),
    rows=st.integers(1, 40),
    rank=st.integers(1, 40),
    scale=st.floats(-6, 6),
    noise=st.sampled_from([0.0, 0.1, 10.0]),
)
def test_no_setting_makes_a_mirror_diverge(n_in, n_out, rows, rank, scale, noise) -> None:
    """Rank-deficient, badly scaled, few or many rows: the map stays bounded by what it is shown."""
    generator = torch.Generator().manual_seed(n_in * 100 + rank)
    true = torch.randn(n_out, n_in, generator=generator)
    basis = torch.randn(rank, n_in, generator=generator) * 10**scale
    mirror = Mirror(nn.Linear(n_in, n_out), rows=rows)
    size = noise * rank**0.5 * 10**scale  # of the activities' own noise
    for _ in range(60):
        x = torch.randn(rows, rank, generator=generator) @ basis
        made = x @ true.T + size * torch.randn(rows, n_out, generator=generator)
        mirror.update_(x, x[None], made[None])
        if not noise:
            assert mirror.map.norm() <= 1.2 * true.norm() + 1e-6
    x = torch.randn(50, rank, generator=generator) @ basis
    wrong = (mirror.predict(x, x[None])[0] - x @ true.T).norm()
    assert wrong <= 1.1 * (x @ true.T).norm() + 10 * size * (50 * n_out) ** 0.5


@pytest.mark.parametrize(("noise", "worse"), [(0.0, 1e-3), (0.3, 6), (3.0, 2.5), (10.0, 2.5)])
def test_a_mirror_is_about_as_good_as_least_squares_of_all_it_saw(noise, worse) -> None:
    """In 30 and 300 updates of 20 rows; without noise within 0.1 % of the map after 300."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(10, 40, generator=generator)
    mirror = Mirror(nn.Linear(40, 10), rows=20)
    seen = []
    for n in range(1, 301):
        x = torch.randn(20, 40, generator=generator)
        a = x @ true.T + noise * torch.randn(20, 10, generator=generator)
        mirror.update_(x, x[None], a[None])
        seen.append((x, a))
        if n in (30, 300) and noise:
            xs, as_ = (torch.cat(part) for part in zip(*seen, strict=True))
            best = torch.linalg.lstsq(xs, as_).solution.T
            assert (mirror.map - true).norm() < worse * (best - true).norm()
    if not noise:
        assert (mirror.map - true).norm() < worse * true.norm()


def test_a_mirror_follows_a_map_that_changes() -> None:
    """Weights that wander by 1 % per update, noise as large as the activities' differences."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(10, 40, generator=generator)
    mirror, wrong = Mirror(nn.Linear(40, 10), rows=20), []
    for n in range(600):
        true = true + 0.01 * torch.randn(10, 40, generator=generator)
        x = torch.randn(20, 40, generator=generator)
        noise = 40**0.5 * torch.randn(20, 10, generator=generator)
        mirror.update_(x, x[None], (x @ true.T + noise)[None])
        wrong += [float((mirror.map - true).norm() / true.norm())] if n > 300 else []
    assert sum(wrong) / len(wrong) < 0.5


@pytest.mark.parametrize("forgetting", [0.0001, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("batch", [1, 50])
def test_no_setting_makes_learned_credit_diverge(forgetting, width, batch) -> None:
    maps = DirectMaps(lambda name: LearnedMap(forgetting=forgetting), taught=True)
    torch.manual_seed(0)
    layers = nn.Linear(5, width), nn.Linear(width, width), nn.Linear(width, 3)
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1], Sign(), layers[2])
    estimator = NodePerturbation(net, squared_error, DirectFeedback(maps), sigma=0.1)
    norms = []
    for _ in range(150):
        net.zero_grad()
        estimator(torch.randn(batch, 5), torch.randn(batch, 3))
        norms.append(max(float(p.grad.norm()) for p in net.parameters()))
    assert max(norms[100:]) < 20 * (1 + max(norms[:50])) and math.isfinite(max(norms))


def test_a_bin_seen_once_with_a_tiny_difference_does_not_explode() -> None:
    """A read-out over time answers to more than the mean: δy/δa of one pair may be anything."""
    gate, generator = Gate(), torch.Generator().manual_seed(0)
    for _ in range(20):
        a = torch.randn(64, 20, generator=generator)
        shift = 0.1 * torch.randn(64, 20, generator=generator)
        gate.update_(a, shift, 2 * shift)
    a, shift, response = torch.tensor([[3.9]]), torch.tensor([[1e-6]]), torch.tensor([[0.5]])
    gate.update_(a, shift, response)
    assert abs(float(gate(torch.tensor([3.9]))) - 2) < 1


@pytest.mark.parametrize("where", ["inputs", "outputs"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_reading_teaches_a_mirror_nothing(where: str, value: float) -> None:
    torch.manual_seed(0)
    true, mirror = torch.randn(5, 7), Mirror(nn.Linear(7, 5))
    for step in range(40):
        x = torch.randn(20, 7)
        a = x @ true.T
        if step in (0, 10):
            (x if where == "inputs" else a)[3, 2] = value
        before = mirror.map
        mirror.update_(x, x[None], a[None])
        if step == 10:
            assert torch.equal(mirror.map, before)
    assert (mirror.map - true).norm() < 0.05 * true.norm()
