"""The verification of modules that behave in unusual, but sound ways; found in tests/zoo."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisynets import NodePerturbation
from noisynets.core.errors import SystemRefused
from noisynets.core.losses import squared_error
from noisynets.estimators.node_perturbation import pairs


class Attention(nn.Module):
    """Self-attention that names the dropout it does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)  # one head
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0)
        return self.head(mixed).mean((1, 2))


class Strict:
    """Answers no question about attributes that it does not have, not even by AttributeError."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


def test_a_dropout_of_0_draws_nothing() -> None:
    torch.manual_seed(0)
    estimator = NodePerturbation(Attention(), squared_error, "np")
    assert estimator(torch.randn(3, 5, 4), torch.randn(3, 2)).loss.shape == (3,)


def test_attributes_may_be_of_any_type() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    net.injector = Strict()
    estimator = NodePerturbation(net, squared_error, "np")
    assert estimator(torch.randn(3, 4), torch.randn(3, 2)).loss.shape == (3,)


def rare(operation: str, h: Tensor) -> Tensor:
    """Noise that changes one row in fifty, or fewer."""
    match operation:
        case "dropout":
            return torch.native_dropout(h, 0.003, True)[0]
        case "bernoulli":
            return h * torch.full_like(h, 0.997).bernoulli()
    return h * (1 + torch.poisson(torch.full_like(h, 0.003)))


class Rare(nn.Module):
    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(rare(self.operation, self.first(x)).tanh())


@pytest.mark.parametrize("operation", ["dropout", "bernoulli", "poisson"])
def test_noise_that_is_rare_is_refused_in_the_loss(operation: str) -> None:
    torch.manual_seed(0)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return squared_error(rare(operation, outputs), targets)

    with pytest.raises(SystemRefused, match="the loss: draws random numbers"):
        NodePerturbation(nn.Linear(4, 2), loss, "np")(torch.randn(20, 4), torch.randn(20, 2))


@pytest.mark.parametrize("operation", ["dropout", "bernoulli"])
def test_noise_that_is_rare_is_paired(operation: str) -> None:
    torch.manual_seed(0)
    estimator = NodePerturbation(Rare(operation), squared_error, "np")
    estimator(torch.randn(20, 4), torch.randn(20, 2))
    assert pairs(estimator)


def test_noise_that_nothing_pairs_is_refused() -> None:
    torch.manual_seed(0)
    estimator = NodePerturbation(Rare("poisson"), squared_error, "np")
    with pytest.raises(SystemRefused, match="the system itself.*draws random numbers"):
        estimator(torch.randn(20, 4), torch.randn(20, 2))


class Linear(nn.Linear):
    """A layer of the same name, as packages have them."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def test_a_layer_with_its_parents_name_is_told_apart() -> None:
    with pytest.raises(SystemRefused) as refusal:
        NodePerturbation(nn.Sequential(Linear(4, 2)), squared_error, "np")
    advice = f"outer.register({__name__}.Linear, outer.dispatch(nn.Linear))"
    assert "'0' (Linear)" in str(refusal.value) and advice in str(refusal.value)
