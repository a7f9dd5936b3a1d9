"""Units of one activity that differ in a constant have gates of their own (mirrored credit)."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from cases import cosine
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error

CENTRES = torch.linspace(-2, 2, 8)
UNITS: dict[str, Callable[[Tensor], list[Tensor]]] = {
    "concatenated ReLU": lambda h: [h.relu(), (-h).relu()],
    "sines": lambda h: [h.sin(), (2 * h).sin(), (4 * h).sin()],
    "radial bases": lambda h: [(-(h - c).square()).exp() for c in (-1.0, 0.0, 1.0)],
    "thresholds": lambda h: [(h - c).relu() for c in (-1.0, 1.0)],
    "slopes": lambda h: [F.leaky_relu(h, slope) for slope in (-1.0, 0.1)],
    "scalar tensors": lambda h: [(h * torch.tensor(c)).sin() for c in (1.0, 3.0)],
    "one constant per component": lambda h: [(-(h - CENTRES).square()).exp()],
}


class Units(nn.Module):
    def __init__(self, units: Callable[[Tensor], list[Tensor]]) -> None:
        super().__init__()
        self.units = units
        self.enter = nn.Linear(5, len(CENTRES))
        self.out = nn.Linear(len(CENTRES) * len(units(torch.zeros(1))), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat(self.units(self.enter(x)), 1))


@pytest.mark.parametrize("name", UNITS)
def test_credit_has_the_direction_of_the_gradient(name: str) -> None:
    """Cosines were 0.97 and more in 2 seeds; with one gate for all, 0.4 to 0.9."""
    torch.manual_seed(0)
    net = Units(UNITS[name])
    x, y = torch.randn(100, 5), torch.randn(100, 3)
    squared_error(net(x), y).mean().backward()
    truth = net.enter.weight.grad
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=0.05)
    for _ in range(100):
        net.zero_grad()
        estimator(x, y)
    assert cosine(net.enter.weight.grad, truth) > 0.95
