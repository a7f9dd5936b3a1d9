"""What was traced once is traced anew wherever the system is another one than it was."""

import pytest
import torch
from cases import TrueMap, gradients
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.bench.networks import NETWORKS
from noisynets.bench.tracing import SMALL, Traced, kept, saved
from noisynets.core.errors import InputError
from noisynets.core.graph import Graph, LinearOp
from noisynets.core.record import Record
from noisynets.core.types import physical
from noisynets.estimators.node_perturbation import pairs
from noisynets.rules.credit.feedback import LayerwiseFeedback, Sent, UpdateSchedule

F64 = torch.float64


class Flip(nn.Module):
    """Turns the features round: as linear as an identity, with another adjoint."""

    def forward(self, a: Tensor) -> Tensor:
        return torch.stack(a.unbind(1)[::-1], 1)


class Alternating(nn.Module):
    """No chain: what lies between its layers is another thing in every other batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.batches = nn.Linear(6, 8), nn.Linear(8, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.batches += 1
        a = self.first(x)
        return self.last(Flip()(a) if self.batches % 2 else a)


def estimator(net: nn.Module) -> NodePerturbation:
    """Mirrored credit with the true maps: on a linear net it is the gradient."""
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    return NodePerturbation(net, squared_error, rule, sigma=1e-3)


def assert_exact(found: dict[str, Tensor], loss: Tensor, net: nn.Module) -> None:
    """Compare with autograd's gradient, and leave no gradient."""
    loss.mean().backward()
    true = gradients(net)
    assert found.keys() == true.keys()
    for name, gradient in true.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 6, dtype=F64), torch.randn(4, 3, dtype=F64)


def replace(net: nn.Sequential) -> None:
    net[4] = nn.AvgPool2d((2, 1))


def insert(net: nn.Sequential) -> None:
    net.insert(1, nn.Linear(8, 8).double())


def freeze(net: nn.Sequential) -> None:
    net[0].requires_grad_(False)


def thaw(net: nn.Sequential) -> None:
    net[0].requires_grad_(True)


@pytest.mark.parametrize("change", [replace, insert, freeze, thaw])
def test_a_system_that_changes_between_two_batches_is_traced_anew(change) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Identity(), nn.Linear(8, 8))
    net += nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.AvgPool2d((1, 2)), nn.Flatten())
    net = net.append(nn.Linear(4, 3)).double()
    if change is thaw:
        net[0].requires_grad_(False)
    estimate = estimator(net)
    for _ in range(2):
        estimate(*batch())
        net.zero_grad()
    change(net)
    x, y = batch()
    estimate(x, y)
    assert_exact(gradients(net), squared_error(net(x), y), net)


def test_inputs_of_another_size_are_traced_anew() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    estimate = estimator(net.double())
    for size in (8, 12, 8):
        x, y = torch.randn(5, 1, size, size, dtype=F64), torch.randn(5, 3, dtype=F64)
        estimate(x, y)
        assert_exact(gradients(net), squared_error(net(x), y), net)


def test_a_system_in_another_mode_is_traced_anew() -> None:
    class Mode(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return a if self.training else Flip()(a)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), Mode(), nn.Linear(8, 3)).double()
    estimate = estimator(net)
    for training in (True, False, True):
        net.train(training)
        x, y = batch()
        estimate(x, y)
        assert_exact(gradients(net), squared_error(net(x), y), net)


def test_a_system_that_is_switched_to_training_shares_its_masks() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double().eval()
    estimate = estimator(net)
    estimate(*batch())
    assert not pairs(estimate)
    net.train()
    estimate(*batch())
    assert pairs(estimate)


def test_a_system_in_another_precision_is_checked_anew() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)).double()
    estimate = estimator(net)
    estimate(*batch())
    net.bfloat16()
    with pytest.raises(InputError, match="below the precision of bfloat16"):
        estimate(*(part.bfloat16() for part in batch()))


def test_what_no_record_holds_is_traced_in_every_batch() -> None:
    """The input of a maximum pooling behind a unit: each pass must store it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten())
    net.append(nn.Linear(16, 3)).double()
    estimate = estimator(net)
    for _ in range(3):
        net.zero_grad()
        estimate(torch.randn(4, 1, 6, 6, dtype=F64), torch.randn(4, 3, dtype=F64))
        assert net[0].weight.grad.any()


def test_what_is_blocked_is_found_anew_in_another_graph() -> None:
    between = nn.Sequential(nn.Softmax(1))
    net = nn.Sequential(nn.Linear(6, 8), between, nn.Linear(8, 3)).double()
    estimate = estimator(net)
    estimate(*batch())
    net[1] = physical(nn.Softmax(1))
    with pytest.warns(UserWarning, match="'0': what lies behind cannot be mirrored"):
        estimate(*batch())


def test_what_is_no_chain_is_traced_in_every_batch() -> None:
    torch.manual_seed(0)
    net = Alternating().double()
    estimate = estimator(net)
    for batches in range(4):
        x, y = batch()
        net.batches = batches
        estimate(x, y)
        net.batches = batches
        assert_exact(gradients(net), squared_error(net(x), y), net)


@pytest.mark.parametrize("rule", ["np", "anp", "mirrored"])
def test_noise_is_drawn_anew_in_every_batch_and_every_node(rule: str) -> None:
    drawn: list[Tensor] = []

    def kept(shape, like: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.randn(shape, dtype=like.dtype, generator=generator))
        return drawn[-1].clone()

    net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    estimate = NodePerturbation(net, squared_error, rule, sigma=0.1, noise=kept)
    for _ in range(3):
        estimate(*batch())
    assert len(drawn) == 6
    assert len({tuple(z.flatten().tolist()) for z in drawn}) == 6


class Changing(nn.Module):
    """What lies between two layers is another thing in every batch."""

    def __init__(self, forwards) -> None:
        super().__init__()
        self.forwards, self.turn = forwards, [0]

    def forward(self, a: Tensor) -> Tensor:
        return self.forwards[self.turn[0]](a)


def ramp(a: Tensor) -> Tensor:
    return torch.linspace(1, 2, a.shape[1], dtype=a.dtype)


def written(a: Tensor, start: int, whole: bool) -> Tensor:
    """Half of the features, or all, written over with twice the others."""
    out = a.clone()
    out[:, start : start + 4] = 2 * a[:, 4 - start : 8 - start]
    return out if whole else out * 1


def times_in_place(a: Tensor, factor: float) -> Tensor:
    out = (factor * ramp(a)).expand_as(a).clone()
    return out.mul_(a)


FORWARDS = {
    "another branch": (lambda a: a, lambda a: a.flip(1), lambda a: torch.roll(a, 1, 1)),
    "another operation": (lambda a: a * ramp(a), lambda a: a / ramp(a), lambda a: a + ramp(a)),
    "another number": (lambda a: 2 * a, lambda a: 3 * a, lambda a: -a),
    "another constant": (lambda a: a * ramp(a), lambda a: a * ramp(a).flip(0)),
    "another scalar": tuple(
        lambda a, s=s: a * torch.tensor(s, dtype=F64) for s in (1.0, 2.0, -1.0)
    ),
    "other operands": (
        lambda a: a[:, :1] * a,
        lambda a: a[:, 1:2] * a,
        lambda a: a * a.mean(1, True),
    ),
    "the operands swapped": (lambda a: a - 2 * a.flip(1), lambda a: a.flip(1) - 2 * a),
    "the divisor swapped": (
        lambda a: a / (3 + a[:, :1].square()),
        lambda a: a.square() / (3 + a[:, :1]),
    ),
    "another axis": (
        lambda a: a.view(-1, 2, 4).transpose(1, 2).flatten(1),
        lambda a: a.view(-1, 4, 2).transpose(1, 2).flatten(1),
    ),
    "an operation more": (lambda a: a * a, lambda a: (a * a) * 0.5 + a, lambda a: a * a),
    "in place": (lambda a: a.clone().mul_(2), lambda a: a.clone().mul_(3)),
    "a constant in place": (lambda a: times_in_place(a, 1), lambda a: times_in_place(a, 2)),
    "written over": (lambda a: written(a, 0, True), lambda a: written(a, 4, True)),
    "written over, and used": (lambda a: written(a, 0, False), lambda a: written(a, 4, False)),
}


@pytest.mark.parametrize(
    "turns", [(0, 0, 1, 2, 1, 1, 0, 2, 0), (0, 0, 0, 0, 0, 1, 1, 0, 2)], ids=["soon", "late"]
)
@pytest.mark.parametrize("always", [0, 200])
@pytest.mark.parametrize("name", list(FORWARDS))
def test_a_forward_that_changes_is_seen_in_every_batch(name: str, always: int, turns) -> None:
    """A chain with a module of someone else: the credit is autograd's gradient in every batch.

    With pairs (200), and after the first batch without (0); where it changes at once, and where it
    has stayed the same for so long that it has a program.
    """
    torch.manual_seed(0)
    between = Changing(FORWARDS[name])
    net = nn.Sequential(nn.Linear(6, 8), between, nn.Linear(8, 3)).double()
    estimate = estimator(net)
    estimate.rule.schedule = UpdateSchedule(always, every=1000)
    for turn in turns:
        x, y = batch()
        between.turn[0] = turn % len(FORWARDS[name])
        estimate(x, y)
        assert_exact(gradients(net), squared_error(net(x), y), net)


class Kept(LayerwiseFeedback):
    """Keeps the graphs of all batches."""

    def __init__(self) -> None:
        super().__init__(lambda node: TrueMap(node.product))
        self.graphs: list[Graph] = []

    def distribute(self, record: Record, graph: Graph, learns: bool) -> Sent:
        self.graphs.append(graph)
        return super().distribute(record, graph, learns)


def graphs(net: nn.Module, batches: int = 3) -> list[Graph]:
    rule = Kept()
    estimate = NodePerturbation(net, squared_error, rule, sigma=1e-3, verify=False)
    for _ in range(batches):
        estimate(*batch())
    return rule.graphs


@pytest.mark.parametrize("name", [n for n in FORWARDS if not n.startswith("written")])
def test_a_forward_that_stays_has_one_graph(name: str) -> None:
    """It is traced in every batch, as it might change, and nothing new is made of it."""
    for forward in FORWARDS[name]:
        net = nn.Sequential(nn.Linear(6, 8), Changing((forward,)), nn.Linear(8, 3)).double()
        first, second, third = graphs(net)
        assert second is first
        assert third is first


def test_only_what_follows_a_new_constant_is_made_anew() -> None:
    torch.manual_seed(0)
    mask = Changing((lambda a: a.square() * torch.randn(8, dtype=F64),))
    net = nn.Sequential(nn.Linear(6, 8), mask, nn.Linear(8, 8), nn.Linear(8, 3)).double()
    first, second, _ = graphs(net)
    assert second is not first
    scaled, before = second.inputs[1], first.inputs[1]
    assert isinstance(scaled, LinearOp)
    assert isinstance(before, LinearOp)
    assert scaled is not before
    assert scaled.of is before.of
    assert second.inputs[2] is first.inputs[2]


def hook(net: nn.Sequential) -> None:
    net[1].register_forward_hook(lambda module, args, output: output.flip(1))


def window(net: nn.Sequential) -> None:
    net[1].kernel_size, net[1].padding = (3,), (1,)


def forward(net: nn.Sequential) -> None:
    net[1].forward = lambda a: a[..., ::2].flip(1)


def renew(net: nn.Sequential) -> None:
    net[0].weight = nn.Parameter(torch.randn_like(net[0].weight))


@pytest.mark.parametrize("change", [hook, window, forward, renew])
def test_a_chain_whose_modules_do_something_else_is_traced_anew(change) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AvgPool1d(2), nn.Conv1d(4, 2, 3)).double()
    net += nn.Sequential(nn.Flatten(), nn.LazyLinear(3, dtype=F64))
    net(torch.randn(4, 1, 16, dtype=F64))
    estimate = estimator(net)
    for turn in range(3):
        if turn == 1:
            change(net)
        x, y = torch.randn(4, 1, 16, dtype=F64), torch.randn(4, 3, dtype=F64)
        net.zero_grad()
        estimate(x, y)
        assert_exact(gradients(net), squared_error(net(x), y), net)


def erase(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
    args[0].zero_()


class Products(nn.Module):
    """A product whose factor enters the last layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        a = h * h
        product = a * h
        return product + self.last(a)


def test_an_operand_that_a_node_overwrites_is_kept_as_it_was() -> None:
    torch.manual_seed(0)
    net, plain = Products().double(), Products().double()
    plain.load_state_dict(net.state_dict())
    net.last.register_forward_hook(erase)
    rule = LayerwiseFeedback(lambda node: TrueMap(node.product))
    estimate = NodePerturbation(net, squared_error, rule, sigma=1e-3)
    for _ in range(2):
        x, y = batch()
        estimate(x, y)
        squared_error(plain(x), y).mean().backward()
        found, true = gradients(net), gradients(plain)
        for name in ("first.weight", "first.bias"):
            torch.testing.assert_close(found[name], true[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("resamples", [0, 1])
def test_what_is_kept_is_no_more_than_what_autograd_saves(name: str, resamples: int) -> None:
    traced = Traced(NETWORKS[name], 1)
    traced.steps()
    rows = torch.cat([traced.x] * (1 + resamples))
    most = saved(lambda: traced.system(rows), traced.system)
    assert 0 < kept(traced.record(resamples), traced.system) <= most
