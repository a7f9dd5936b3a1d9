"""The graph between the nodes: credit with true maps and gains, against autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import TrueMap, cosine, gradients
from torch import Tensor, nn

from noisynets import InputError, NodePerturbation, SystemRefused, squared_error
from noisynets.core.types import physical
from noisynets.rules.credit.delivery import Gates, given
from noisynets.rules.credit.feedback import LayerwiseFeedback

F64 = torch.float64


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> LayerwiseFeedback:
    """Layerwise credit with the true weights, and the true gain of tanh: backpropagation."""

    def gain(self, unit, record) -> Tensor:
        return 1 - given(record, unit)[0].tanh().square()

    monkeypatch.setattr(Gates, "__call__", gain)
    return LayerwiseFeedback(lambda node: TrueMap(node.product))


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


GRAPHS = {
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


@pytest.mark.parametrize("name", GRAPHS)
def test_with_the_true_maps_credit_is_the_gradient(name: str, exact: LayerwiseFeedback) -> None:
    """Against autograd, in float64, to 1e-9: every adjoint on the way is exact."""
    torch.manual_seed(0)
    net = GRAPHS[name].double()
    net.zero_grad()
    conv = any(isinstance(m, nn.Conv2d) for m in net.modules())
    x = torch.randn(4, 1, 6, 6, dtype=F64) if conv else torch.randn(4, 6, dtype=F64)
    with torch.no_grad():
        target = torch.randn_like(net(x))
    NodePerturbation(net, squared_error, exact, sigma=1e-3)(x, target)
    found = gradients(net)
    squared_error(net(x), target).mean().backward()
    for parameter, true in gradients(net).items():
        torch.testing.assert_close(found[parameter], true, rtol=1e-9, atol=1e-9)


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
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
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
        lambda a: torch.frexp(a).mantissa,
        lambda a: (a[:, :4] > a[:, 4:]).float(),
        lambda a: torch.floor_divide(a[:, :4], 2 + a[:, 4:].square()),
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


def test_another_picture_size_is_traced_anew() -> None:
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


def test_what_is_declared_physical_gets_learned_credit_and_is_named() -> None:
    torch.manual_seed(0)
    softmax = physical(nn.Softmax(1))
    net = nn.Sequential(nn.Linear(6, 8), softmax, nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
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
    assert estimator.plan.stretches[0].learned == ("softmax",)


@pytest.mark.parametrize("named", [("softmax",), ("1",)])
def test_what_is_named_physical_is_passed_by_no_derivative(named: tuple[str, ...]) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored", physical=named)
    with pytest.warns(UserWarning, match="'0': what lies behind cannot be mirrored"):
        estimator(torch.randn(5, 6), torch.randn(5, 3))
    assert estimator.fallbacks == ("0",)


def test_a_name_that_names_nothing_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored", physical=("sofmax",))
    with pytest.raises(InputError, match="'sofmax': no module and no operation.*are softmax$"):
        estimator(torch.randn(5, 6), torch.randn(5, 3))


def test_the_plan_says_what_is_exact_measured_and_learned() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Softmax(1), nn.Linear(8, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored")
    with pytest.raises(InputError, match="make a step first"):
        print(estimator.plan)
    estimator(torch.randn(5, 6), torch.randn(5, 3))
    assert str(estimator.plan).splitlines() == [
        "3: from 0",
        "    exact: softmax",
        "    measured: relu",
        "the output: from 3",
    ]
    with pytest.raises(InputError, match="sends no credit"):
        print(NodePerturbation(net, squared_error, "anp").plan)


def test_an_output_that_hides_its_activities_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 3), physical(nn.Softmax(1)))
    with pytest.raises(SystemRefused, match="leave such a step to the loss"):
        NodePerturbation(net, squared_error, "mirrored")(torch.randn(5, 6), torch.randn(5, 3))
