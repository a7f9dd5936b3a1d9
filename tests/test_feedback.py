"""Feedback under difficult conditions; `test_battery` has what every rule passes."""

import pytest
import torch
from torch import nn

from noisynets import RULES, NodePerturbation, squared_error
from noisynets.core.errors import NoisynetsError
from noisynets.systems.devices import Chip
from noisynets.systems.units import Bernoulli, Sign

each_feedback = pytest.mark.parametrize(
    "rule", [name for name, entry in RULES.items() if entry.sends_error]
)


class Sensor(nn.Module):
    """Reads a value in place of every 99, as a broken sensor inside the system does."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.masked_fill(x == 99, self.value)


@each_feedback
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_broken_activities_teach_nothing_and_raise_nothing(rule: str, value: float) -> None:
    torch.manual_seed(0)
    hidden = [nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh()]
    net = nn.Sequential(Sensor(value), *hidden, nn.Linear(5, 3))
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.1)
    for i in range(6):
        x = torch.randn(20, 4)
        x[3] = 99 if i in (0, 3) else 1.0
        net.zero_grad()
        estimator(x, torch.randn(20, 3))
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@each_feedback
def test_small_floats_and_single_samples_do(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).bfloat16()
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.5, resamples=2)
    for batch in (8, 1, 3):
        estimator(torch.randn(batch, 4).bfloat16(), torch.randn(batch, 3).bfloat16())
    assert net[2].weight.grad.isfinite().all()


@each_feedback
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
    with pytest.raises(NoisynetsError, match="did you mean 'mirrored'"):
        NodePerturbation(nn.Linear(2, 2), squared_error, "mirored")
