"""Feedback: what lies between nodes, against autograd; what pairs teach, against what is true."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import cosine, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisynets import InputError, NodePerturbation, SystemRefused, cross_entropy, squared_error
from noisynets.devices import AdditiveGaussian, Chip, GainOffset, Noisy, WeightSpread
from noisynets.errors import NoisynetsError
from noisynets.estimate import derivative
from noisynets.feedback import FEEDBACKS, Corrected, MeasuredError
from noisynets.feedback.credit import Backward, Straight, dfa
from noisynets.feedback.direct import Learned
from noisynets.feedback.gate import Gate
from noisynets.feedback.learnt import Gates, Turns, geometry
from noisynets.feedback.mirror import Mirror
from noisynets.losses import DERIVATIVES
from noisynets.units import Bernoulli, Sign

F64 = torch.float64


# --- what lies between two nodes ---------------------------------------------------------------


class Told(Mirror):
    """A mirror that was told the weights."""

    def update_(self, inputs: Tensor, outputs: Tensor) -> None:
        self._map = self.layer.weight.detach().flatten(1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Backward:
    """Backward credit with the true weights, and the true gain of tanh: backpropagation."""

    def gain(self, unit, pair) -> Tensor:
        return 1 - pair.given(unit)[0].tanh().square()

    monkeypatch.setattr(Gates, "__call__", gain)
    return Backward(lambda node: Told(geometry(node)))


def _net(between, out: int, conv: bool = False) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 4, 3, padding=1) if conv else nn.Linear(6, 8)
            self.last = nn.Linear(out, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(between(self.first(x)))

    return Net()


def _residual(h: Tensor, layer: nn.Module) -> Tensor:
    return h + layer(h.tanh())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).tanh()
        h = (h + 0.5 * self.b(h)).tanh()
        return self.c(h - self.b(h)) + 0.1 * self.c(h)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.i, self.h, self.o = nn.Linear(2, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, out = x.new_zeros(len(x), 5), []
        for t in range(3):
            h = torch.tanh(self.i(x[:, 2 * t : 2 * t + 2]) + self.h(h))
            out.append(self.o(h))
        return torch.stack(out, 1).mean(1)


WIRED = {
    "unit": _net(torch.tanh, 8),
    "in place": _net(lambda a: a.tanh_(), 8),
    "reshape": _net(lambda a: a.view(-1, 2, 4).tanh().transpose(1, 2).reshape(-1, 8), 8),
    "permute": _net(lambda a: a.view(-1, 2, 2, 2).permute(0, 3, 1, 2).flatten(1).tanh(), 8),
    "slice": _net(lambda a: a.tanh()[:, 2:7:2], 3),
    "select and cat": _net(
        lambda a: torch.cat([a.tanh().view(-1, 2, 4)[:, 1], a.tanh()[:, :3]], 1), 7
    ),
    "stack and mean": _net(lambda a: torch.stack([a.tanh(), a], 1).mean(1), 8),
    "unbind and sum": _net(lambda a: sum(a.view(-1, 4, 2).tanh().unbind(1)[:3]), 2),
    "split": _net(lambda a: a.split(3, dim=1)[1].tanh(), 3),
    "sum of two": _net(lambda a: a.view(-1, 2, 4).sum(1).tanh(), 4),
    "mean kept": _net(lambda a: (a.tanh().view(-1, 2, 4).mean(2, keepdim=True)).flatten(1), 2),
    "max pool": _net(lambda a: F.max_pool2d(a.tanh(), 2).flatten(1), 36, conv=True),
    "max pool first": _net(lambda a: F.max_pool2d(a, 3, stride=2).tanh().flatten(1), 16, conv=True),
    "average pool": _net(lambda a: F.avg_pool2d(a.tanh(), 2).flatten(1), 36, conv=True),
    "padded pool": _net(
        lambda a: F.avg_pool2d(a.tanh(), 3, stride=2, padding=1).flatten(1), 36, conv=True
    ),
    "global pool": _net(lambda a: F.adaptive_avg_pool2d(a.tanh(), 1).flatten(1), 4, conv=True),
    "residual": Residual(),
    "recurrent": Recurrent(),
    "convolutions": nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(3, 4, 2, dilation=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4, 3),
    ),
    "1-d convolution": nn.Sequential(
        nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 2), nn.Tanh(), nn.Conv1d(4, 3, 2), nn.Flatten()
    ),
    "positions": nn.Sequential(
        nn.Unflatten(1, (3, 2)), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten()
    ),
}


@pytest.mark.parametrize("name", WIRED)
def test_with_the_true_maps_credit_is_the_gradient(name: str, told: Backward) -> None:
    """Against autograd, in float64, to 1e-9: every adjoint on the way is exact."""
    torch.manual_seed(0)
    net = WIRED[name].double()
    net.zero_grad()
    conv = any(isinstance(m, nn.Conv2d) for m in net.modules())
    x = torch.randn(4, 1, 6, 6, dtype=F64) if conv else torch.randn(4, 6, dtype=F64)
    with torch.no_grad():
        target = torch.randn_like(net(x))
    NodePerturbation(net, squared_error, told, sigma=1e-3)(x, target)
    found = gradients(net)
    squared_error(net(x), target).mean().backward()
    for parameter, true in gradients(net).items():
        torch.testing.assert_close(found[parameter], true, rtol=1e-9, atol=1e-9)


def _half_then(a: Tensor) -> Tensor:
    b = a.new_zeros(len(a), 2, 8)
    b[:, 0] = a.tanh()
    return b.flatten(1)


SCALE = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1.0, -1.0])
MEASURED = {
    "in place on a sum": (lambda a: F.relu_(a.view(-1, 2, 4).sum(1)), 4),
    "in place on a copy": (lambda a: (a + a.tanh()).relu_(), 8),
    "units on pieces": (lambda a: torch.cat([q.relu() for q in a.chunk(2, 1)], 1), 8),
    "pieces of other sizes": (lambda a: torch.cat([q.relu() for q in a.split([3, 5], 1)], 1), 8),
    "a factor per feature": (lambda a: a * SCALE, 8),
    "a factor behind a unit": (lambda a: a.tanh() * SCALE, 8),
    "two units": (lambda a: torch.cat([a.relu(), (2 * a).cos()], 1), 16),
    "two units on pieces": (lambda a: torch.cat([a[:, :4].relu(), (3 * a[:, 4:]).tanh()], 1), 8),
    "where": (lambda a: torch.where(a > 0, a, 0.1 * a), 8),
    "a product with itself": (lambda a: a * (1 - a), 8),
    "a constant beside": (lambda a: torch.cat([a.tanh(), torch.ones(len(a), 2)], 1), 10),
    "a constant less": (lambda a: (1 - a).relu(), 8),
    "added in place": (lambda a: a.tanh().clone().add_(a.sin()), 8),
}


@pytest.mark.parametrize("name", MEASURED)
def test_with_measured_gains_credit_is_the_gradient(name: str) -> None:
    """True maps, measured gates, 300 pairs of 200: cosine above 0.99 and the right size."""
    between, out = MEASURED[name]
    torch.manual_seed(0)
    net = _net(between, out)
    rule = Backward(lambda node: Told(geometry(node)))
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.02)
    for _ in range(300):
        net.zero_grad()
        x, y = torch.randn(200, 6), torch.randn(200, 3)
        estimator(x, y)
    found = gradients(net)["first.weight"]
    squared_error(net(x), y).mean().backward()
    true = gradients(net)["first.weight"]
    assert cosine(found, true) > 0.99
    assert float(found.norm() / true.norm()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "between",
    [
        lambda a: torch.from_numpy(np.tanh(a.numpy())),
        lambda a: F.softmax(a, 1),
        lambda a: torch.frexp(a).mantissa,
        lambda a: a[:, :4] * a[:, 4:],
        lambda a: F.avg_pool2d(a.view(-1, 2, 2, 2), 2, divisor_override=1).flatten(1),
        _half_then,
    ],
)
def test_what_is_lost_or_opaque_is_named_and_still_taught(between) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        out = between(torch.zeros(1, 8)).shape[1]
    net = _net(between, out)
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=0.05)
    with pytest.warns(UserWarning, match="'first': what lies behind cannot be mirrored"):
        estimator(torch.randn(50, 6), torch.randn(50, 3))
    assert net.first.weight.grad.abs().sum() > 0


def test_another_picture_size_is_wired_anew() -> None:
    class Global(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return a.tanh().mean((2, 3))

    net = nn.Sequential(nn.Conv2d(1, 4, 3), Global(), nn.Linear(4, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored")
    for size in (8, 12, 8):
        estimator(torch.randn(10, 1, size, size), torch.randn(10, 3))
    assert net[0].weight.grad.isfinite().all()


def test_long_recurrences_are_walked_once() -> None:
    """A state that is used twice at every step has 2^T paths through T steps."""

    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h, self.o = nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = x
            for _ in range(40):
                h = h + 0.1 * (torch.tanh(self.h(h)) - h)
            return self.o(h)

    net = Leaky()
    NodePerturbation(net, squared_error, "mirrored")(torch.randn(10, 5), torch.randn(10, 3))
    assert net.h.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", FEEDBACKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_broken_activities_teach_nothing_and_raise_nothing(rule: str, value: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1)
    for i in range(6):
        x = torch.randn(20, 4)
        x[3] = value if i in (0, 3) else 1.0
        net.zero_grad()
        estimator(x, torch.randn(20, 3))
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("rule", FEEDBACKS)
def test_small_floats_and_single_samples_do(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).bfloat16()
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.5, resamples=2)
    for batch in (8, 1, 3):
        estimator(torch.randn(batch, 4).bfloat16(), torch.randn(batch, 3).bfloat16())
    assert net[2].weight.grad.isfinite().all()


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "learned", "fa", "dfa", "frozen"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_feedback_restored_on_a_used_estimator_is_what_was_saved(rule: str, steps: int) -> None:
    def estimator() -> NodePerturbation:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        return NodePerturbation(net, squared_error, rule, sigma=0.1)

    x, y = torch.randn(20, 4), torch.randn(20, 3)
    first, used = estimator(), estimator()
    for _ in range(Turns.ALWAYS + steps):  # in turns since then
        first(x, y)
    saved = {k: v.clone() for k, v in first.state().items()}
    for _ in range(3):
        used(2 * x, y)
    used.restore(saved)
    again = used.state()
    assert again.keys() == saved.keys() and all(torch.equal(again[k], saved[k]) for k in saved)
    used.system.zero_grad(), first.system.zero_grad()
    for estimator_ in (used, first):
        for _ in range(6):  # with and without pairs
            estimator_(x, y)
    for one, other in zip(used.system.parameters(), first.system.parameters(), strict=True):
        if rule == "frozen" and one.grad is None:
            assert other.grad is None
            continue
        assert torch.equal(one.grad, other.grad) and one.grad.any()


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "learned", "fa", "dfa", "frozen"])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_a_fresh_estimator_goes_on_with_the_same_bits_at_any_phase(rule: str, steps: int) -> None:
    """In the system's own noise, so that the number of passes must be the same, too."""

    def estimator() -> NodePerturbation:
        torch.manual_seed(0)
        layers = [Noisy(nn.Linear(4, 5), AdditiveGaussian(0.1, 1)), nn.ReLU()]
        layers.append(Noisy(nn.Linear(5, 3), AdditiveGaussian(0.1, 2)))
        return NodePerturbation(nn.Sequential(*layers), squared_error, rule, sigma=None)

    x, y = torch.randn(20, 4), torch.randn(20, 3)
    first, fresh = estimator(), estimator()
    for _ in range(Turns.ALWAYS + steps):
        first(x, y)
    fresh.restore({k: v.clone() for k, v in first.state().items()})
    fresh.system.load_state_dict(first.system.state_dict())
    first.system.zero_grad()
    for _ in range(6):
        assert first(x, y).sample_forwards == fresh(x, y).sample_forwards
    for one, other in zip(fresh.system.parameters(), first.system.parameters(), strict=True):
        assert one.grad is other.grad is None or torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "learned", "fa", "dfa", "frozen"])
def test_pairs_are_made_only_where_feedback_learns(rule: str) -> None:
    """Later one pass is enough in three steps of four, and gives the same credit as in a pair."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1, resamples=2)
    x, y = torch.randn(20, 4), torch.randn(20, 3)
    made = [estimator(x, y).sample_forwards // 20 for _ in range(Turns.ALWAYS + 8)]
    assert made == [3] * Turns.ALWAYS + [3, 1, 1, 1] * 2
    estimator(x, y)
    twin = copy.deepcopy(estimator)
    alone, paired = estimator.credit(x, y, always=False), twin.credit(x, y)
    assert (alone.estimate.sample_forwards, paired.estimate.sample_forwards) == (20, 60)
    for one, other in zip(alone.credits, paired.credits, strict=True):
        torch.testing.assert_close(one, other)


def test_what_cannot_be_passed_gets_learned_credit_and_is_named() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=1e-2)
    x, y = torch.randn(50, 6), torch.randn(50, 3)
    with pytest.warns(UserWarning, match="'0': what lies behind cannot be mirrored"):
        estimator(x, y)
    for _ in range(200):
        net.zero_grad()
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    assert cosine(found["0.weight"], true["0.weight"]) > 0.3
    assert cosine(found["2.weight"], true["2.weight"]) > 0.9


def test_an_output_that_hides_its_activities_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 3), nn.Softmax(1))
    with pytest.raises(SystemRefused, match="leave such a step to the loss"):
        NodePerturbation(net, squared_error, "mirrored")(torch.randn(5, 6), torch.randn(5, 3))


def test_a_loss_without_a_derivative_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 3))

    def errors(output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) != target).float()

    with pytest.raises(InputError, match="this loss has no derivative"):
        NodePerturbation(net, errors, "mirrored")(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))


# --- what pairs teach --------------------------------------------------------------------------


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
    """Fixed weights, 1,500 pairs of 100, any unit: cosine above 0.95, in its own noise 0.9."""
    net = _mlp(unit, noise)
    found, x, y = _taught(net, "mirrored", 1500, None if noise else 0.05)
    squared_error(net(x), y).mean().backward()
    for name, true in gradients(net).items():
        if name.endswith("weight"):
            assert cosine(found[name], true) > (0.9 if noise else 0.95), name


def test_learned_credit_is_aligned_with_the_gradient() -> None:
    """Fixed weights, 1,500 pairs of 100: the best linear feedback from the error, cosine > 0.5."""
    for noise in (0.0, 0.05):
        net = _mlp(nn.Tanh, noise)
        found, x, y = _taught(net, "learned", 1500, None if noise else 0.05)
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
            mirror.update_(shift, node(x + shift) - node(x))
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


# --- nothing diverges, nothing leaks -----------------------------------------------------------


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
        mirror.update_(x, x @ true.T + size * torch.randn(rows, n_out, generator=generator))
        if not noise:
            assert mirror.map.norm() <= 1.2 * true.norm() + 1e-6
    x = torch.randn(50, rank, generator=generator) @ basis
    wrong = (mirror.predict(x) - x @ true.T).norm()
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
        mirror.update_(x, a)
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
        mirror.update_(x, x @ true.T + noise)
        wrong += [float((mirror.map - true).norm() / true.norm())] if n > 300 else []
    assert sum(wrong) / len(wrong) < 0.5


@pytest.mark.parametrize("forgetting", [0.0001, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("width", [4, 64])
@pytest.mark.parametrize("batch", [1, 50])
def test_no_setting_makes_learned_credit_diverge(forgetting, width, batch) -> None:
    rule = Straight(lambda name: Learned(forgetting=forgetting))
    torch.manual_seed(0)
    layers = nn.Linear(5, width), nn.Linear(width, width), nn.Linear(width, 3)
    net = nn.Sequential(layers[0], nn.Tanh(), layers[1], Sign(), layers[2])
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1)
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


@pytest.mark.parametrize("rule", [name for name in FEEDBACKS if name != "kolen-pollack"])
def test_no_rule_reads_weights_or_derivatives(rule: str, monkeypatch) -> None:
    """Modules raise on a backward pass; weights raise when read while credit is made."""

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a.tanh()

        @staticmethod
        def backward(ctx, grad):
            raise AssertionError("a derivative of the system was asked for")

    class Unit(nn.Module):
        def forward(self, a):
            return Forward.apply(a)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), Unit(), nn.Flatten(), nn.Linear(48, 8), Unit(), nn.Linear(8, 3)
    )
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1)
    reading, make, get = [False], estimator.rule, nn.Module.__getattr__

    class Hidden:
        def __call__(self, pair):
            reading[0] = True
            try:
                return make(pair)
            finally:
                reading[0] = False

    def guarded(self, name):
        if reading[0] and name in ("weight", "bias"):
            raise AssertionError("a weight of the system was read")
        return get(self, name)

    monkeypatch.setattr(nn.Module, "__getattr__", guarded)
    estimator.rule = Hidden()
    for _ in range(3):
        estimator(torch.randn(20, 1, 6, 6), torch.randn(20, 3))
    assert net[5].weight.grad.abs().sum() > 0
    assert rule == "frozen" or net[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rule", FEEDBACKS)
def test_the_systems_own_noise_teaches_too(rule: str) -> None:
    torch.manual_seed(0)
    chip = Chip("pcm", device_seed=1)
    net = nn.Sequential(
        chip(nn.Linear(6, 8)),
        Bernoulli(seed=1),
        chip(nn.Linear(8, 8)),
        Sign(),
        chip(nn.Linear(8, 3)),
    )
    estimator = NodePerturbation(net, squared_error, rule, sigma=None)
    for _ in range(20):
        net.zero_grad()
        estimator(torch.randn(20, 6), torch.randn(20, 3))
    for name, p in net.named_parameters():
        trained = rule != "frozen" or name.startswith("4")
        assert (p.grad is not None and p.grad.isfinite().all()) if trained else p.grad is None


def test_errors_are_the_librarys() -> None:
    with pytest.raises(InputError, match="no scaling: leave out 'root'"):
        NodePerturbation(nn.Linear(2, 2), squared_error, "mirrored", scaling="root")
    with pytest.raises(NoisynetsError, match="did you mean 'mirrored'"):
        NodePerturbation(nn.Linear(2, 2), squared_error, "mirored")


# --- control variates --------------------------------------------------------------------------


def _variances(output_scale: float) -> dict[str, float]:
    """Mean square error of one estimate in the hidden layers, per rule; and its mean is right."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(10, 32),
        nn.LeakyReLU(0.01),
        nn.Linear(32, 32),
        nn.LeakyReLU(0.01),
        nn.Linear(32, 5),
    ).double()
    for layer, scale in ((net[0], 1), (net[2], 1), (net[4], output_scale)):
        nn.init.normal_(layer.weight, 0, scale * (2 / layer.in_features) ** 0.5)
    x, y = torch.randn(4, 10, dtype=F64), torch.randint(0, 5, (4,))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction="none")

    loss(net(x), y).mean().backward()
    true = torch.cat([g.flatten() for n, g in gradients(net).items() if n[0] != "4"])
    found = {}
    mirrored = Corrected(Backward(lambda node: Told(geometry(node))))
    rules = {name: name for name in ("np", "innovation", "share")}
    for name, rule in (rules | {"dfa": Corrected(dfa()), "mirrored": mirrored}).items():
        estimator = NodePerturbation(net, loss, rule, sigma=1e-4, resamples=100, seed=1)
        draws = []
        for _ in range(200):
            estimator(x, y)
            grads = gradients(net)
            draws.append(torch.cat([g.flatten() for n, g in grads.items() if n[0] != "4"]))
        drawn = torch.stack(draws)
        least = {"np": 0.9, "innovation": 0.9, "dfa": 0.7}.get(name, 0.99)  # as their noise is
        assert cosine(drawn.mean(0), true) > least, name
        spread = float((drawn - true).square().sum(1).mean())
        assert float((drawn.mean(0) - true).square().sum()) < 2 * spread / len(draws), name
        found[name] = spread * 100
    return found


def test_control_variates_are_unbiased_and_have_less_variance() -> None:
    """20,000 draws each. With a small output layer its noise dominates δL: taking its share out
    leaves 1/20 of NP's variance or less; with a plain He output layer, 1/1.2 or less."""
    small, plain = _variances(0.1), _variances(1.0)
    assert small["np"] / small["share"] > 20
    assert plain["np"] / plain["share"] > 1.2
    assert small["innovation"] / small["np"] == pytest.approx(1, abs=0.3)
    for found in (small, plain):  # what a feedback predicts of δL needs no measuring
        assert found["share"] / found["mirrored"] > 5


def test_a_correction_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(InputError, match="within 0..1"):
        Corrected(dfa(), 1.5)


# --- losses without a derivative ---------------------------------------------------------------


def numpy_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """A loss that torch cannot see into."""
    z = output.detach().numpy()
    z = z - z.max(1, keepdims=True)
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), target.numpy()]
    return torch.from_numpy(losses)


def test_a_measured_error_agrees_with_the_derivative_in_the_mean() -> None:
    """On correlated outputs, 20,000 draws, cosine above 0.99."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 5)).double()
    x, y = torch.randn(1, 6, dtype=F64).expand(50, 6), torch.full((50,), 2)
    estimator = NodePerturbation(
        net, numpy_cross_entropy, "mirrored", sigma=1e-2, resamples=8, loss_gradient="measured"
    )
    for _ in range(50):
        estimator(x, y)
    found = net[2].bias.grad / 50
    true = net(x[:1]).softmax(1)[0] - F.one_hot(torch.tensor(2), 5)
    assert cosine(found, true.detach()) > 0.99


@pytest.mark.parametrize("rule", ["mirrored", "learned", "dfa", "frozen"])
def test_a_loss_without_a_derivative_is_learnt_from_its_differences(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 20), nn.LeakyReLU(0.1), nn.Linear(20, 3))
    x = torch.randn(200, 8)
    y = x[:, :3].argmax(1)
    with pytest.raises(InputError, match="loss_gradient='measured'"):
        NodePerturbation(net, numpy_cross_entropy, rule, sigma=0.05)(x, y)
    estimator = NodePerturbation(
        net, numpy_cross_entropy, rule, sigma=0.05, loss_gradient="measured"
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()
    assert (net(x).argmax(1) == y).float().mean() > 0.75  # chance is a third


def test_raw_rules_have_no_error_to_measure() -> None:
    with pytest.raises(InputError, match="no derivative of the loss anyway"):
        NodePerturbation(_mlp(nn.Tanh), squared_error, "anp", loss_gradient="measured")


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("rule", ["mirrored", "learned", "share"])
def test_measured_errors_do_not_turn_credit_round(rule: str, measured: bool) -> None:
    """Mean over many rows, after 30 calls: positive alignment in every layer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    gradient = "measured" if measured else "known"
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.01, loss_gradient=gradient)
    x, y = torch.randn(4, 6).repeat(5000, 1), torch.randn(4, 3).repeat(5000, 1)
    for _ in range(30):
        net.zero_grad()
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    for name, true in gradients(net).items():
        assert cosine(found[name], true) > 0.3, name


def test_what_is_made_of_the_loss_difference_is_not_corrected_by_it() -> None:
    for rule in ("innovation", "share"):
        with pytest.raises(InputError, match="nothing is left"):
            Corrected(FEEDBACKS[rule](0))
    with pytest.raises(InputError, match="both come from δL"):
        NodePerturbation(_mlp(nn.Tanh), squared_error, Corrected(dfa()), loss_gradient="measured")


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
        mirror.update_(x, a)
        if step == 10:
            assert torch.equal(mirror.map, before)
    assert (mirror.map - true).norm() < 0.05 * true.norm()


def test_a_broken_first_batch_teaches_nothing_of_the_error() -> None:
    torch.manual_seed(0)
    measured, e = MeasuredError(), torch.randn(3)
    for step in range(60):
        y = torch.cat([torch.zeros(1, 40, 3), torch.randn(50, 40, 3)])
        dloss = (y[1:] @ e).clone()
        if step == 0:
            y[2, 1, 0] = math.nan
        found = measured(y.flatten(0, 1), dloss)
    assert (found.mean(0) - e).norm() < 0.1 * e.norm()


@pytest.mark.parametrize("loss", DERIVATIVES)
def test_closed_derivatives_are_those_of_autograd(loss) -> None:
    """Of rows that are left out, too; a loss that cannot be hashed is differentiated."""
    torch.manual_seed(0)
    outputs = torch.randn(6, 4, dtype=torch.float64)
    targets = (
        torch.tensor([0, 3, -100, 1, 2, 3]) if loss is cross_entropy else torch.randn(6, 4).double()
    )

    class Unhashable:
        __hash__ = None

        def __call__(self, outputs, targets):
            return loss(outputs, targets)

    closed = DERIVATIVES[loss](outputs, targets)
    torch.testing.assert_close(closed, derivative(Unhashable(), outputs, targets))
    assert torch.equal(closed, derivative(loss, outputs, targets))
