"""Digital operations between the nodes: credit with true maps and gains, against autograd."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from cases import TrueMap, gradients
from torch import Tensor, nn

from noisynets import NodePerturbation, squared_error
from noisynets.rules.credit.delivery import Gates, given
from noisynets.rules.credit.feedback import LayerwiseFeedback

F64 = torch.float64


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> LayerwiseFeedback:
    """Layerwise credit with the true weights, and the true gain of tanh: backpropagation."""

    def gain(self, unit, record) -> Tensor:
        names, a = set(unit.operation.split("·")) - {""}, given(record, unit)[0]
        assert names in ({"tanh"}, {"tanh", "clone"}, {"tanh", "add"}, {"clamp_min"}), names
        return 1 - a.tanh().square() if "tanh" in names else torch.ones_like(a)

    monkeypatch.setattr(Gates, "__call__", gain)
    return LayerwiseFeedback(lambda node: TrueMap(node.product))


class Between(nn.Module):
    """A layer of 24 units, operations, and layers over whatever is left."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.between = nn.Linear(6, 24, dtype=F64), between
        with torch.no_grad():
            made = between(self.first(torch.ones(4, 6, dtype=F64))).flatten(1)
        self.last = nn.Linear(made.shape[1], 3, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)).flatten(1))


def heads(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (rows, heads, positions, features)."""
    q, k, v = h.view(len(h), 4, 3, 2).tanh().unbind(2)
    return tuple(t.view(len(h), 4, 2, 1).transpose(1, 2) for t in (q, k, v))


def attention(h: Tensor) -> Tensor:
    q, k, v = heads(h)
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2)


def folded(h: Tensor) -> Tensor:
    """Attention with the heads folded into the rows, as PyTorch's own module does."""
    q, k, v = (t.flatten(0, 1) for t in heads(h))
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v).view(len(h), -1).tanh()


def time_first(h: Tensor) -> Tensor:
    t = h.view(len(h), 4, 6).transpose(0, 1)
    t = t.reshape(4, len(h) * 2, 3).softmax(-1).view(4, len(h), 6)
    return t.cumsum(0).transpose(0, 1).tanh()


def masked(h: Tensor) -> Tensor:
    q, k, v = heads(h)
    mask = torch.ones(4, 4, dtype=torch.bool).tril()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def filled(h: Tensor) -> Tensor:
    out = torch.zeros(len(h), 4, 6, dtype=h.dtype)
    for t in range(4):
        out[:, t] = h[:, 6 * t : 6 * t + 6].tanh() + (out[:, t - 1] if t else 0)
    return out


def gates_in_place(h: Tensor) -> Tensor:
    i, f, g = h.unsafe_chunk(3, 1)
    return i.tanh_() * f.tanh_() + g.tanh_()


def overwritten(h: Tensor) -> Tensor:
    a = h * h
    b = a.view(-1, 4, 6)
    b[:, 1:3] *= 2
    b[:, 0].zero_()
    return a * b.flatten(1)


def rotary(h: Tensor) -> Tensor:
    q = h.view(len(h), 4, 6)
    angle = torch.arange(4, dtype=h.dtype)[:, None] * torch.arange(1, 4, dtype=h.dtype)
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    one, two = q.chunk(2, -1)
    return q * cos + torch.cat([-two, one], -1) * sin


def experts(h: Tensor) -> Tensor:
    """The two best of four experts, mixed by the weights of their scores."""
    scores, values = h[:, :4], h[:, 4:].view(len(h), 4, 5)
    best, index = scores.topk(2, -1)
    taken = values.gather(1, index.unsqueeze(-1).expand(-1, -1, 5))
    return (best.softmax(-1).unsqueeze(-1) * taken).sum(1)


def changed_afterwards(h: Tensor) -> Tensor:
    """A factor is overwritten once the product has been made, which autograd refuses."""
    a = h[:, :12].clone()
    product = a * h[:, 12:]
    a.mul_(3)
    return product + a


picture = (-1, 6, 2, 2)
INDEX = torch.tensor([3, 1, 1, 0])
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "product": lambda h: h[:, :12] * h[:, 12:].tanh(),
    "product with a column": lambda h: h.view(-1, 4, 6).tanh() * h[:, :4, None],
    "square": lambda h: h**2,
    "division": lambda h: h[:, :12] / (2 + h[:, 12:] ** 2),
    "matmul": lambda h: h.view(-1, 2, 3, 4) @ h.tanh().view(-1, 2, 4, 3),
    "batched vectors": lambda h: torch.einsum("bij,bj->bi", h[:, :20].view(-1, 5, 4), h[:, 20:]),
    "einsum": lambda h: torch.einsum(
        "bhqd,bhkd->bhqk", h.view(-1, 2, 4, 3), h.tanh().view(-1, 2, 4, 3)
    ),
    "softmax": lambda h: h.view(-1, 4, 6).softmax(-1),
    "log softmax": lambda h: h.log_softmax(1),
    "logsumexp": lambda h: h.view(-1, 4, 6).logsumexp(2),
    "attention": attention,
    "folded attention": folded,
    "masked attention": masked,
    "causal attention": lambda h: F.scaled_dot_product_attention(*heads(h), is_causal=True),
    "time first": time_first,
    "layer norm": lambda h: F.layer_norm(h.view(-1, 4, 6), (6,)).tanh(),
    "group norm": lambda h: F.group_norm(h.view(picture), 3),
    "instance norm": lambda h: F.instance_norm(h.view(picture)).tanh(),
    "rms norm": lambda h: F.rms_norm(h, (24,)),
    "batch norm in use": lambda h: F.batch_norm(
        h, torch.ones(24, dtype=F64), torch.full((24,), 2.0, dtype=F64)
    ),
    "layer norm by hand": lambda h: (
        (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    ),
    "rms norm by hand": lambda h: h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6),
    "cosine": lambda h: F.normalize(h.view(-1, 4, 6), dim=-1),
    "standard deviation": lambda h: h.view(-1, 4, 6).std(-1),
    "less the mean": lambda h: (h - h.mean(1, keepdim=True)).tanh(),
    "greatest": lambda h: h.view(-1, 4, 6).amax(-1),
    "greatest of two": lambda h: torch.maximum(h[:, :12], h[:, 12:]),
    "sorted": lambda h: h.sort(1).values[:, :5],
    "cumulative sum": lambda h: h.view(-1, 4, 6).cumsum(1),
    "flip": lambda h: h.flip(1).tanh(),
    "roll": lambda h: h.view(-1, 4, 6).roll((1, 2), (1, 2)).tanh(),
    "pad": lambda h: F.pad(h.view(picture), (1, 2, 0, 1)).tanh(),
    "reflect": lambda h: F.pad(h.view(picture), (1, 1, 1, 1), mode="reflect"),
    "index": lambda h: h.view(-1, 4, 6)[:, INDEX].tanh(),
    "two indices": lambda h: h.view(-1, 4, 6)[:, INDEX, torch.tensor([5, 0, 2, 2])],
    "index select": lambda h: h.index_select(1, INDEX),
    "gather": lambda h: h.gather(1, INDEX.expand(len(h), 4)),
    "masked": lambda h: h.masked_fill(torch.arange(24) % 3 == 0, 0.5).tanh(),
    "where": lambda h: torch.where(torch.arange(12) % 2 == 0, h[:, :12], h[:, 12:].tanh()),
    "a choice": lambda h: torch.where(h[:, :12] > h[:, 12:], h[:, :12], h[:, 12:].tanh()),
    "repeat": lambda h: h.view(-1, 4, 6).repeat(1, 2, 1).tanh(),
    "repeat interleave": lambda h: h.repeat_interleave(2, 1),
    "expand": lambda h: h.view(-1, 4, 1, 6).expand(-1, 4, 3, 6).tanh(),
    "nearest": lambda h: F.interpolate(h.view(picture), scale_factor=2).tanh(),
    "bilinear": lambda h: F.interpolate(h.view(picture), size=(5, 3), mode="bilinear"),
    "pixel shuffle": lambda h: F.pixel_shuffle(h[:, :16].view(-1, 4, 2, 2), 2).tanh(),
    "unfold": lambda h: F.unfold(h.view(-1, 1, 4, 6), 2),
    "maximum pooling": lambda h: F.max_pool1d(h.view(-1, 2, 12).tanh(), 3),
    "any average pooling": lambda h: F.avg_pool2d(
        h.view(-1, 1, 4, 6), 3, padding=1, count_include_pad=False
    ),
    "adaptive pooling": lambda h: F.adaptive_avg_pool2d(h.view(-1, 1, 4, 6), (3, 4)),
    "concatenation with empties": lambda h: torch.cat([h.new_zeros(0), h.tanh(), h[:, :0], h], 1),
    "stack": lambda h: torch.stack([h.tanh(), h], -1),
    "gated linear unit": lambda h: F.glu(h, 1),
    "LSTM's gates, in place": gates_in_place,
    "filled step by step": filled,
    "overwritten": overwritten,
    "changed afterwards": changed_afterwards,
    "rotary": rotary,
    "experts": experts,
    "complex": lambda h: torch.view_as_real(torch.fft.rfft(h)),
    "inverse": lambda h: torch.linalg.inv(
        h[:, :9].view(-1, 3, 3) + 9 * torch.eye(3, dtype=h.dtype)
    ),
    "detached": lambda h: h.detach().softmax(1),
    "a constant less": lambda h: torch.tensor(1.0, dtype=h.dtype) - h,
    "scaled by a buffer": lambda h: h * torch.tensor(0.3, dtype=h.dtype),
    "outer product": lambda h: (h[:, :5, None] * h[:, None, 5:9].tanh()).flatten(1),
    "bilinear form": lambda h: F.bilinear(h[:, :3], h[:, 3:7], torch.ones(5, 3, 4, dtype=F64)),
}


WRITTEN_FOR_AUTOGRAD: dict[str, Callable[[Tensor], Tensor]] = {
    "detached": lambda h: h.softmax(1),
    "changed afterwards": lambda h: h[:, :12] * h[:, 12:] + 3 * h[:, :12],
}
"""The same functions, where autograd stops or refuses."""

EACH = [(name, 2) for name in OPERATIONS] + [("folded attention", 1), ("overwritten", 1)]


@pytest.mark.parametrize(("name", "passes"), EACH)
def test_credit_is_the_gradient(name: str, passes: int, exact: LayerwiseFeedback) -> None:
    """Against autograd, in float64, to 1e-9, with as many rows as positions, too."""
    torch.manual_seed(0)
    net = Between(OPERATIONS[name])
    x = torch.randn(4, 6, dtype=F64)
    with torch.no_grad():
        target = torch.randn_like(net(x))
    estimator = NodePerturbation(net, squared_error, exact, sigma=1e-3, resamples=passes)
    for _ in range(2):  # from a new transcript, and from that of the last batch
        net.zero_grad()
        estimator(x, target)
    assert not estimator.fallbacks
    found = gradients(net)
    net.between = WRITTEN_FOR_AUTOGRAD.get(name, net.between)
    squared_error(net(x), target).mean().backward()
    for parameter, true in gradients(net).items():
        torch.testing.assert_close(found[parameter], true, rtol=1e-9, atol=1e-9)
