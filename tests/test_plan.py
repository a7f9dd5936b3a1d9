"""What was traced once is traced anew wherever the system is another one than it was."""

import pytest
import torch
from cases import TrueMap, gradients
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.core.errors import InputError
from noisynets.core.types import physical
from noisynets.rules.credit.feedback import LayerwiseFeedback

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
    loss.mean().backward()
    true = gradients(net)
    assert found.keys() == true.keys()
    for name, gradient in true.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(4, 6, dtype=F64), torch.randn(4, 3, dtype=F64)


def replace(net: nn.Sequential) -> None:
    net[1] = Flip()


def insert(net: nn.Sequential) -> None:
    net.insert(1, nn.Linear(8, 8).double())


def freeze(net: nn.Sequential) -> None:
    net[0].requires_grad_(False)


def thaw(net: nn.Sequential) -> None:
    net[0].requires_grad_(True)


@pytest.mark.parametrize("change", [replace, insert, freeze, thaw])
def test_a_system_that_changes_between_two_batches_is_traced_anew(change) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Identity(), nn.Linear(8, 8), Flip(), nn.Linear(8, 3))
    net = net.double()
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
    net = nn.Sequential(nn.Linear(6, 8), nn.Identity(), nn.Linear(8, 3)).double()
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
