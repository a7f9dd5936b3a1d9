"""The verification of modules that behave in unusual, but sound ways; found in tests/zoo."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noisynets import NodePerturbation
from noisynets.core.errors import SystemRefused
from noisynets.core.losses import squared_error


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


class Rare(nn.Module):
    """Noise that changes one row in fifty, or fewer."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        match self.operation:
            case "dropout":
                h = torch.native_dropout(h, 0.003, True)[0]
            case "bernoulli":
                h = h * torch.full_like(h, 0.997).bernoulli()
            case "poisson":
                h = h * (1 + torch.poisson(torch.full_like(h, 0.003)))
        return self.last(h.tanh())


@pytest.mark.parametrize("operation", ["dropout", "bernoulli", "poisson"])
def test_noise_that_is_rare_is_refused(operation: str) -> None:
    torch.manual_seed(0)
    estimator = NodePerturbation(Rare(operation), squared_error, "np")
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
