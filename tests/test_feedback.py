"""The battery for every feedback: what it reads, what it keeps, and where it makes pairs."""

import copy

import pytest
import torch
from torch import nn

from noisynets import InputError, NodePerturbation, squared_error
from noisynets.core.errors import NoisynetsError
from noisynets.rules.credit import FEEDBACKS
from noisynets.rules.credit.maps import Turns
from noisynets.systems.devices import AdditiveGaussian, Chip, Noisy
from noisynets.systems.units import Bernoulli, Sign


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
