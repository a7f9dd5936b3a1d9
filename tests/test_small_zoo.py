"""Nets of every kind that went wrong somewhere: each is refused by name, or `np` is the gradient.

The exact design of `exact_np` decides: an accepted net whose gradient is wrong fails the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact_np import wrong
from torch import Tensor, nn

from noisynets import NodePerturbation, SystemRefused, decorrelate, outer

B = 4
FEATURES = 5


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.flatten(1) - targets).square().sum(1)


@dataclass(frozen=True)
class Case:
    """A net, and words of its refusal; None: it is accepted, and must be right."""

    make: Callable[[], nn.Module]
    refused: tuple[str, ...] | None = None
    shape: tuple[int, ...] = (FEATURES,)
    outputs: int = 2
    batch: int = B
    loss: Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]] = field(
        default=lambda net: squares
    )

    def system(self) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
        torch.manual_seed(0)
        net = self.make().double()
        x = torch.randn(self.batch, *self.shape, dtype=torch.float64)
        y = torch.randn(self.batch, self.outputs, dtype=torch.float64)
        return net, self.loss(net), x, y


class Fn(nn.Module):
    """A module made of a function, with the layers that it uses."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def head(middle: nn.Module, width: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, width), nn.Tanh(), middle, nn.Linear(width, 2))


# 1.11: a subclass is not its parent


class StdConv(nn.Conv2d):
    """Weight standardisation, as in timm."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class RegisteredStdConv(StdConv):
    pass


outer.register(RegisteredStdConv, outer.dispatch(nn.Conv2d))


class NormAct(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Masked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.weight.new_ones(self.weight.shape).tril(), self.bias)


class Equalised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, 0.3 * self.weight, self.bias)


class Named(nn.Linear):
    """Only the constructor is its own."""

    def __init__(self, n: int) -> None:
        super().__init__(n, n)


class Logged(nn.Linear):
    """The same product, in a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


outer.register(Logged, outer.dispatch(nn.Linear))


class Power(nn.Module):
    """A type of one's own, not linear in its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return x.abs() ** self.exponent


@outer.register
def _power(layer: Power, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    return {"exponent": (credit * x.abs() ** layer.exponent * x.abs().log()).sum()}


def conv(layer: nn.Module, *more: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, *more, nn.Tanh(), nn.Flatten(), nn.Linear(3 * 9, 2))


def hooked(hook: Callable[..., Tensor], pre: bool = False) -> nn.Module:
    layer = nn.Linear(6, 6)
    (layer.register_forward_pre_hook if pre else layer.register_forward_hook)(hook)
    return head(layer)


def replaced(forward: Callable[[nn.Module, Tensor], Tensor]) -> nn.Module:
    layer = nn.Linear(6, 6)
    layer.forward = lambda x: forward(layer, x)
    return head(layer)


# 1.12: weights that act elsewhere


def tied(net: nn.Module, x: Tensor) -> Tensor:
    return F.linear(net.enc(x).tanh(), net.enc.weight.T)


def shared_parameter() -> nn.Module:
    one, two = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES, bias=False)
    two.weight = one.weight
    return nn.Sequential(one, nn.Tanh(), two, nn.Tanh(), nn.Linear(FEATURES, 2))


def score(net: nn.Module, x: Tensor) -> Tensor:
    """The gradient of an energy: autograd inside forward."""
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        energy = net.two(net.one(z).tanh()).square().sum()
        (found,) = torch.autograd.grad(energy, z, create_graph=True)
    return found[:, :2]


def recurrent(net: nn.Module, x: Tensor) -> Tensor:
    h = x.new_zeros(len(x), 4)
    for _ in range(3):
        h = (net.enter(x) + net.again(h)).tanh()
    return net.out(h)


# 1.13: rows that mix


def hand_norm(net: nn.Module, x: Tensor) -> Tensor:
    h = net.enter(x)
    h = (h - h.mean(0)) / h.std(0)
    return net.out(h.tanh())


RING = torch.eye(B).roll(1, 0).double() + torch.eye(B).double()


def graph(net: nn.Module, x: Tensor) -> Tensor:
    """One graph of B nodes, its nodes as rows; a stack is taken for several graphs."""
    h = net.enter(x).tanh().unflatten(0, (-1, B))
    return net.out((RING @ h).flatten(0, 1))


def one_graph(net: nn.Module, x: Tensor) -> Tensor:
    """The same by an index of edges: later rows have none."""
    h = net.enter(x).tanh()
    source, target = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])
    return net.out(h.index_add(0, target, h[source]))


def time_first(net: nn.Module, x: Tensor) -> Tensor:
    """A layer over (T, B, n); T equals the rows of some pass."""
    h = net.enter(x.transpose(0, 1)).tanh()
    return net.out(h.mean(0))


def fixed_batch(net: nn.Module, x: Tensor) -> Tensor:
    """Rows are taken for time steps of a batch of fixed size, as in sinabs."""
    h, found = x.new_zeros(B, 6), []
    for step in net.enter(x).unflatten(0, (-1, B)):
        h = 0.7 * h + step
        found.append(h)
    return net.out(torch.cat(found).tanh())


def contrastive(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs @ outputs.T, torch.arange(len(outputs)), reduction="none")


# 1.14: noise by another name


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(0.8)
        return x * kept / 0.8


class FDropout(nn.Module):
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Seeded(nn.Module):
    """Draws the same random numbers in every call, for the rows of one pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return self.net(x)


class NumpyNoise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.random = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.from_numpy(self.random.standard_normal(tuple(x.shape)))


class Carried(nn.Module):
    """State from batch to batch; a pass from the same state is the same."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = []
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        self.count += 1
        return x


# sound ones


def attention(net: nn.Module, x: Tensor) -> Tensor:
    q, k, v = net.q(x), net.k(x), net.v(x)
    h = net.norm(x + F.scaled_dot_product_attention(q, k, v))
    return net.out((h + net.up(h).tanh()).mean(1))


def gated(net: nn.Module, x: Tensor) -> Tensor:
    h = net.enter(x)
    return net.out(h.tanh() * net.gate(x).sigmoid() + h.relu_())


def enter_and_out(width: int = 6, entering: int = FEATURES, out: int = 2) -> dict[str, nn.Module]:
    return {"enter": nn.Linear(entering, width), "out": nn.Linear(width, out)}


def frozen_norm() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
    net[1].requires_grad_(False).eval()
    return conv(net)


def decorrelated() -> nn.Module:
    net = decorrelate(conv(nn.Conv2d(2, 3, 3)), demean=True, rate=0.0)
    net[0].R.add_(0.1 * torch.randn_like(net[0].R))
    net[0].mean.normal_()
    net[0].momentum = net[3].momentum = 0.0
    return net


PICTURE = {"shape": (2, 5, 5)}
CASES = {
    "weight standardisation": Case(
        lambda: conv(StdConv(2, 3, 3)), ("'0'", "StdConv", "forward", "outer.register"), **PICTURE
    ),
    "weight standardisation, registered as a plain convolution": Case(
        lambda: conv(RegisteredStdConv(2, 3, 3)), ("'0'", "RegisteredStdConv", "weights"), **PICTURE
    ),
    "normalisation with activation": Case(
        lambda: conv(nn.Conv2d(2, 3, 3), NormAct(1, 3)), **PICTURE
    ),
    "channels-last normalisation": Case(
        lambda: conv(nn.Conv2d(2, 3, 3), LayerNorm2d(3)), **PICTURE
    ),
    "masked": Case(lambda: head(Masked(6, 6)), ("'2'", "Masked")),
    "equalised": Case(lambda: head(Equalised(6, 6)), ("'2'", "Equalised")),
    "hook that doubles": Case(lambda: hooked(lambda m, i, o: 2 * o), ("'2'", "hook")),
    "hook on the input": Case(lambda: hooked(lambda m, i: (i[0].square(),), pre=True)),
    "forward replaced": Case(lambda: replaced(lambda m, x: F.linear(x, m.weight**2)), ("'2'",)),
    "forward replaced by itself": Case(
        lambda: replaced(lambda m, x: F.linear(x, m.weight, m.bias))
    ),
    "parametrised": Case(lambda: head(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)))),
    "subclass by name": Case(lambda: head(Named(6))),
    "torch's own subclass": Case(
        lambda: head(nn.modules.linear.NonDynamicallyQuantizableLinear(6, 6))
    ),
    "registered subclass": Case(lambda: head(Logged(6, 6))),
    "not linear in its parameter": Case(lambda: head(Power())),
    "tied decoder": Case(
        lambda: Fn(tied, enc=nn.Linear(FEATURES, 3)), ("'enc.weight'", "Fn"), outputs=FEATURES
    ),
    "penalty in the output": Case(
        lambda: Fn(
            lambda net, x: net.out(net.enter(x).tanh()) + 1e-2 * net.enter.weight.norm(),
            **enter_and_out(),
        ),
        ("'enter.weight'", "system itself"),
    ),
    "penalty in the loss": Case(
        lambda: head(nn.Tanh()),
        ("the loss", "'0.weight'", "weight_decay"),
        loss=lambda net: lambda o, y: squares(o, y) + 1e-2 * net[0].weight.square().sum(),
    ),
    "autograd inside": Case(
        lambda: Fn(score, one=nn.Linear(FEATURES, 6), two=nn.Linear(6, 3)),
        (".weight'", "system itself"),
    ),
    "shared parameter": Case(shared_parameter),
    "shared layer": Case(
        lambda: Fn(
            recurrent,
            enter=nn.Linear(FEATURES, 4),
            again=nn.Linear(4, 4, bias=False),
            out=nn.Linear(4, 2),
        )
    ),
    "batch norm by hand": Case(lambda: Fn(hand_norm, **enter_and_out()), ("system itself", "rows")),
    "batch norm by hand, in a module": Case(
        lambda: head(Fn(lambda net, x: (x - x.mean(0)) / x.std(0))), ("'2' (Fn)", "rows")
    ),
    "graph": Case(lambda: Fn(graph, **enter_and_out()), ("system itself", "rows")),
    "graph by its edges": Case(lambda: Fn(one_graph, **enter_and_out()), ("system", "rows")),
    "time first, T = B": Case(
        lambda: Fn(time_first, **enter_and_out()), ("'enter'", "first dim"), shape=(B, FEATURES)
    ),
    "time first, T = 2 B": Case(
        lambda: Fn(time_first, **enter_and_out()), ("'enter'", "first dim"), shape=(2 * B, FEATURES)
    ),
    "a batch of fixed size": Case(lambda: Fn(fixed_batch, **enter_and_out()), ("system", "rows")),
    "a loss that compares rows": Case(
        lambda: head(nn.Tanh()), ("the loss", "rows"), loss=lambda net: contrastive
    ),
    "F.dropout": Case(lambda: Seeded(head(FDropout()))),
    "F.dropout, p = 0": Case(lambda: head(FDropout(0.0))),
    "F.dropout, evaluated": Case(lambda: head(FDropout()).eval()),
    "alpha dropout": Case(lambda: Seeded(head(Fn(lambda net, x: F.alpha_dropout(x, 0.3, True))))),
    "attention dropout": Case(
        lambda: Seeded(
            head(
                Fn(
                    lambda net, x: F.scaled_dot_product_attention(
                        *[x.unflatten(1, (2, 3)).unsqueeze(1)] * 3, None, 0.3
                    ).flatten(1)
                )
            )
        )
    ),
    "stochastic depth": Case(lambda: Seeded(head(DropPath()))),
    "noise by hand": Case(lambda: Seeded(head(Fn(lambda net, x: x + 0.1 * torch.randn_like(x))))),
    "rare dropout": Case(
        lambda: Seeded(head(Fn(lambda net, x: x * (torch.rand(len(x), 1) > 1e-4))))
    ),
    "features first": Case(lambda: Seeded(head(Fn(lambda net, x: F.dropout(x.T, 0.5, True).T)))),
    "a random order of the rows": Case(
        lambda: head(Fn(lambda net, x: x + x[torch.randperm(len(x))])), ("'2' (Fn)", "randperm")
    ),
    "draws that nothing pairs": Case(
        lambda: head(Fn(lambda net, x: x * torch.multinomial(x.exp(), 1))),
        ("'2' (Fn)", "multinomial"),
    ),
    "random numbers that nothing uses": Case(
        lambda: head(Fn(lambda net, x: x + 0 * torch.rand_like(x)))
    ),
    "noise of NumPy": Case(lambda: head(NumpyNoise()), ("'2' (NumpyNoise)", "differ")),
    "noise in the loss": Case(
        lambda: head(nn.Tanh()),
        ("the loss", "random"),
        loss=lambda net: lambda o, y: squares(o + 0.1 * torch.randn_like(o), y),
    ),
    "complex weights": Case(
        lambda: Fn(
            lambda net, x: net.out(net.wave(x.to(torch.complex128)).abs()),
            wave=nn.Linear(FEATURES, 6, dtype=torch.complex128),
            out=nn.Linear(6, 2),
        ),
        ("'wave'", "complex"),
    ),
    "perceptron": Case(lambda: head(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.LayerNorm(6)))),
    "one row": Case(lambda: head(nn.LayerNorm(6)), batch=1),
    "convolutions": Case(
        lambda: conv(
            nn.Conv2d(2, 3, 3, padding=1), nn.GroupNorm(3, 3), nn.Conv2d(3, 3, 3, groups=3)
        ),
        **PICTURE,
    ),
    "frozen batch norm": Case(frozen_norm, **PICTURE),
    "decorrelated": Case(decorrelated, **PICTURE),
    "attention": Case(
        lambda: Fn(
            attention,
            **{name: nn.Linear(FEATURES, FEATURES) for name in ("q", "k", "v", "up")},
            norm=nn.LayerNorm(FEATURES),
            out=nn.Linear(FEATURES, 2),
        ),
        shape=(3, FEATURES),
    ),
    "gates": Case(lambda: Fn(gated, gate=nn.Linear(FEATURES, 6), **enter_and_out())),
    "zeros": Case(lambda: head(zeros())),
    "a counter": Case(lambda: head(Carried())),
}


def zeros() -> nn.Module:
    layer = nn.Linear(6, 6)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("name", CASES)
def test_refused_by_name_or_right(name: str) -> None:
    case = CASES[name]
    net, loss, x, y = case.system()
    if case.refused is None:
        assert not wrong(net, loss, x, y)
        return
    before = {n: v.clone() for n, v in net.state_dict().items()}
    with pytest.raises(SystemRefused) as refusal:
        NodePerturbation(net, loss, "np")(x, y)
    message = str(refusal.value)
    assert all(word in message for word in case.refused), message
    assert "\n" not in message
    assert all(torch.equal(before[n], v) for n, v in net.state_dict().items())
    hooks = [h for m in net.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
    assert sum(map(len, hooks)) == (name.startswith("hook"))
