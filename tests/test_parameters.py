"""Trained parameters that belong to no node: exact credit by the trace, or a share of the pair."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from cases import TrueMap, cosine, gradients
from torch import Tensor, nn

from noisynets import SPSA, NodePerturbation, squared_error
from noisynets.core.own_values import OwnValues
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.systems.devices import AdditiveGaussian, GainOffset, Noisy

F64 = torch.float64


class Tokens(nn.Module):
    """A class token, positions, a scale per channel, mixing weights and a slope."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.positions = nn.Parameter(torch.randn(1, 5, 4))
        self.scale = nn.Parameter(torch.rand(4))
        self.mixing = nn.Parameter(torch.randn(5))
        self.tau = nn.Parameter(torch.zeros(()))
        self.slope = nn.PReLU(4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.view(-1, 4, 3))
        h = torch.cat([self.token.expand(len(h), -1, -1), h], 1) + self.positions
        h = h + self.scale * self.second(F.layer_norm(h, (4,)))
        h = self.slope(h.flatten(0, 1)).view_as(h) * torch.sigmoid(self.tau)
        return self.last((h * self.mixing.softmax(0)[:, None]).sum(1))


def batch(rows: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 12, dtype=F64), torch.randn(rows, 3, dtype=F64)


def test_what_is_added_or_multiplied_gets_exact_credit() -> None:
    torch.manual_seed(0)
    net, (x, y) = Tokens().double(), batch()
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    for _ in range(2):
        estimator(x, y)
        found = gradients(net)
        squared_error(net(x), y).mean().backward()
        true = gradients(net)
        assert found.keys() == true.keys()
        for name, gradient in true.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)
    assert not estimator.notes and not estimator.fallbacks


@pytest.mark.parametrize("passes", [1, 3])
def test_every_pass_has_its_own_values(passes: int) -> None:
    """Against passes that run one by one, with the parameters moved."""
    torch.manual_seed(0)
    net, (x, _) = Tokens().double(), batch()
    between = [net.token, net.positions, net.scale, net.mixing, net.tau, net.slope.weight]
    shifts = {p: 0.1 * torch.randn(passes, *p.shape, dtype=F64) for p in between}
    stacked = torch.cat([x] * (1 + passes))
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    nodes = [type("Node", (), {"outlet": layer})() for layer in layers]
    own = OwnValues(shifts, len(x), nodes)
    own.mark(stacked)
    handles = own.hooks()
    with torch.no_grad(), own:
        found = net(stacked).unflatten(0, (1 + passes, len(x)))
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(found[0], net(x))
        for p in range(passes):
            for parameter, xi in shifts.items():
                parameter.add_(xi[p])
            torch.testing.assert_close(found[1 + p], net(x))
            for parameter, xi in shifts.items():
                parameter.sub_(xi[p])


class Rounded(nn.Module):
    """A gain that is rounded before it is used: no derivative leads to it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 3)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, 8))

    def forward(self, x: Tensor) -> Tensor:
        gain = torch.round(self.gain * 2e4) / 2e4
        return self.last(self.first(x).tanh() * gain)


@pytest.mark.parametrize("rule", ["anp", "np", "mirrored", "dfa"])
def test_what_no_credit_reaches_is_trained_within_the_pair(rule: str) -> None:
    torch.manual_seed(0)
    net, (x, y) = Rounded().double(), batch(20)
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3, resamples=4)
    with pytest.warns(UserWarning, match="'gain': no credit reaches it"):
        estimator(x, y)
        estimator(x, y)
    net.zero_grad()
    for _ in range(60):
        assert estimator(x, y).sample_forwards == 5 * len(x)
    found = gradients(net)["gain"] / 60
    net.forward = lambda x: net.last(net.first(x).tanh() * net.gain)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)["gain"]
    assert cosine(found, true) > 0.9
    assert float(found.norm() / true.norm()) == pytest.approx(1, abs=0.25)


@pytest.mark.filterwarnings("ignore:'gain'")  # of the restored one
def test_what_no_credit_reaches_is_trained_by_spsa_on_request() -> None:
    torch.manual_seed(0)
    net, (x, y) = Rounded().double(), batch(20)

    def fresh() -> NodePerturbation:
        spsa = SPSA(net, squared_error, sigma=1e-2, resamples=8)
        return NodePerturbation(net, squared_error, "mirrored", others=spsa)

    estimator, sums = fresh(), torch.zeros(8, dtype=torch.float64)
    with pytest.warns(UserWarning, match="'gain': no credit reaches it.* by SPSA"):
        estimator(x, y)
        estimator(x, y)
    for _ in range(60):
        net.zero_grad()
        assert estimator(x, y).sample_forwards == (2 + 16) * len(x)
        found = gradients(net)
        sums += found["gain"] / 60
    assert found.keys() == {name for name, _ in net.named_parameters()}
    restored = fresh()
    restored.restore(estimator.state())
    both = []
    for one in (estimator, restored):
        net.zero_grad()
        one(x, y)
        both.append(gradients(net))
    assert all(torch.equal(both[0][name], both[1][name]) for name in both[0])
    net.forward = lambda x: net.last(net.first(x).tanh() * net.gain)
    net.zero_grad()
    squared_error(net(x), y).mean().backward()
    true = gradients(net)["gain"]
    assert cosine(sums, true) > 0.9
    assert float(sums.norm() / true.norm()) == pytest.approx(1, abs=0.25)


def test_raw_rules_train_all_others_too() -> None:
    torch.manual_seed(0)
    net, (x, y) = Tokens().double(), batch(20)
    estimator = NodePerturbation(net, squared_error, "np", sigma=1e-3, resamples=16)
    with pytest.warns(UserWarning, match="'token', 'positions', 'scale', 'mixing', 'tau', 'slope"):
        estimator(x, y)
    net.zero_grad()
    for _ in range(60):
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    assert found.keys() == true.keys()
    for name, gradient in true.items():
        if gradient.numel() > 1 and "." not in name:
            assert cosine(found[name], gradient) > 0.7, name


@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: nn.utils.parametrizations.weight_norm(layer),
        lambda layer: nn.utils.parametrizations.spectral_norm(layer).eval(),
        lambda layer: nn.utils.parametrizations.orthogonal(layer, use_trivialization=False),
    ],
)
def test_parametrised_layers_are_trained_as_they_are(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(wrap(nn.Linear(12, 8)), nn.Tanh(), wrap(nn.Linear(8, 3))).double()
    x, y = batch()
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    assert found.keys() == true.keys()
    for name in (n for n in true if n.startswith("2.")):
        torch.testing.assert_close(found[name], true[name], rtol=1e-9, atol=1e-9)
    assert all(found[n].norm() > 0 for n in true)


class Conv1D(nn.Module):
    """As in the package transformers: a linear layer whose weight is (in, out)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


def test_layers_of_other_packages_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conv1D, "__module__", "transformers.pytorch_utils")
    torch.manual_seed(0)
    net = nn.Sequential(Conv1D(12, 8), nn.Identity(), Conv1D(8, 3)).double()
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=1e-3)
    for _ in range(60):
        net.zero_grad()
        x, y = batch(32)
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    for name, true in gradients(net).items():
        assert cosine(found[name], true) > 0.999, name
    assert not estimator.notes


class Adapter(nn.Module):
    """A frozen layer on a device, with a trained adapter beside it."""

    def __init__(self, inputs: int, outputs: int, seed: int) -> None:
        super().__init__()
        layer = nn.Linear(inputs, outputs).requires_grad_(False)
        self.frozen = Noisy(layer, GainOffset(0.3, device_seed=seed), AdditiveGaussian(0.01, seed))
        self.down, self.up = nn.Linear(inputs, 2), nn.Linear(2, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + self.up(self.down(x))


def test_credit_passes_frozen_devices_by_mirrors() -> None:
    """Their weights, gains and noise are not read, and they stay as they are."""
    torch.manual_seed(0)
    net = nn.Sequential(Adapter(12, 8, 1), nn.Tanh(), Adapter(8, 8, 2), nn.Tanh(), nn.Linear(8, 3))
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=0.05)
    for _ in range(200):
        net.zero_grad()
        x, y = torch.randn(64, 12), torch.randn(64, 3)
        estimator(x, y)
    assert not estimator.fallbacks and net[0].frozen.layer.weight.grad is None
    assert [s.to for s in estimator.plan.stretches if s.to == "2.frozen"]
    found = gradients(net)
    for _ in range(50):
        squared_error(net(x), y).mean().backward()
    true = gradients(net)
    assert cosine(found["0.up.weight"], true["0.up.weight"]) > 0.95


@pytest.mark.parametrize("rule", ["anp", "mirrored"])
def test_what_no_pass_reads_is_left_alone(rule: str) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.idle = nn.Linear(12, 3), nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    net, (x, y) = Idle().double(), batch()
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    with pytest.warns(UserWarning, match="'idle': no credit reaches it"):
        for _ in range(3):
            estimator(x, y)
    assert net.idle.grad is None and net.layer.weight.grad is not None


class Positions(nn.Module):
    """Symbols, an embedding of positions, and a layer that is applied to these alone."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols, self.positions = nn.Embedding(9, 6), nn.Embedding(4, 5)
        self.mixed, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        here = self.mixed(self.positions(torch.arange(4)).tanh())
        return self.last((self.symbols(x) * here).mean(1))


@pytest.mark.parametrize("rows", [4, 6, 8])  # as many as positions, too
def test_layers_without_rows_are_parameters(rows: int) -> None:
    torch.manual_seed(0)
    net, calls = Positions().double(), []
    net.last.register_forward_hook(lambda m, i, o: calls.append(len(o)))
    x, y = torch.randint(9, (rows, 4)), torch.randn(rows, 3, dtype=F64)
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    estimator(x, y)
    assert sum(calls[:5]) == 6 * rows
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    assert found.keys() == true.keys() and not estimator.notes
    for name, gradient in true.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)
