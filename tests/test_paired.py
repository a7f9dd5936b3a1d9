"""Passes of a pair share batch statistics and random masks; noise that is declared differs."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from exact_np import autograd_gradients, np_gradients
from torch import Tensor, nn

from noisynets import (
    SPSA,
    AdditiveGaussian,
    NodePerturbation,
    Noisy,
    SystemRefused,
    WeightPerturbation,
    check,
    freeze,
    squared_error,
    unfreeze,
)
from noisynets.core.noise import Source
from noisynets.core.paired import Paired, needs_pairing
from noisynets.core.statistics import normalised
from noisynets.estimators.node_perturbation import pairs
from noisynets.systems.spiking import Leaky, Spiking

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*batch statistics, which a raw rule", "ignore:.*weight and bias are frozen"
)

B, PASSES = 5, 3
D = torch.float64


class Fn(nn.Module):
    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def stacked(module: nn.Module, x: Tensor, seed: int = 0) -> Tensor:
    """The output in PASSES equal passes, (PASSES, B, ...)."""
    torch.manual_seed(seed)
    with torch.no_grad(), Paired(module, len(x), PASSES):
        out = module(torch.cat([x] * PASSES))
    return out.unflatten(0, (PASSES, len(x)))


# Batch statistics

NORMS = {
    "1d": (lambda: nn.BatchNorm1d(3), (3,)),
    "1d, in time": (lambda: nn.BatchNorm1d(3), (3, 4)),
    "2d": (lambda: nn.BatchNorm2d(3), (3, 2, 4)),
    "3d": (lambda: nn.BatchNorm3d(3), (3, 2, 2, 2)),
    "no affine": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 4)),
    "cumulative": (lambda: nn.BatchNorm1d(3, momentum=None), (3,)),
    "no running statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), (3,)),
    "function": (lambda: Fn(lambda net, x: F.batch_norm(x, None, None, training=True)), (3,)),
    "instances": (lambda: nn.InstanceNorm1d(3, track_running_stats=True), (3, 4)),
}


@pytest.mark.parametrize("name", NORMS)
def test_batch_statistics_are_those_of_the_reference(name: str) -> None:
    """The reference rows and the running statistics are PyTorch's of one pass."""
    make, shape = NORMS[name]
    torch.manual_seed(1)
    norm = make().to(D)
    for p in norm.parameters():
        nn.init.normal_(p)
    plain, moved = copy.deepcopy(norm), copy.deepcopy(norm)
    x = 3 + 2 * torch.randn(B, *shape, dtype=D)
    noise = torch.randn(PASSES, *x.shape, dtype=D)
    noise[0] = 0
    for _ in range(2):
        expected = plain(x)
        with torch.no_grad(), Paired(moved, B, PASSES):
            found = moved((x + noise).flatten(0, 1)).unflatten(0, (PASSES, B))
    torch.testing.assert_close(found[0], expected)
    for (key, one), other in zip(
        plain.state_dict().items(), moved.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(other, one, msg=key)
    if name != "instances":  # the same affine function of every row
        dims = [0, *range(2, x.dim())]
        scale = (x.var(dims, correction=0, keepdim=True) + 1e-5).rsqrt()
        gain = getattr(norm, "weight", None)
        gain = 1 if gain is None else gain.detach().view(1, 3, *[1] * (x.dim() - 2))
        torch.testing.assert_close(found - found[0], noise * scale * gain)


def test_the_derivative_of_the_reference_rows_includes_mean_and_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(PASSES * B, 3, 4, dtype=D, requires_grad=True)
    weight = torch.randn(B, 3, 4, dtype=D)
    out, *_ = normalised({"input": x, "eps": 1e-5}, B, 3)
    (found,) = torch.autograd.grad((out[:B] * weight).sum(), x)
    expected = F.batch_norm(x[:B], None, None, training=True)
    (truth,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(found, truth)


def test_low_precision_is_normalised_in_float32() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    x = torch.randn(B, 4).bfloat16()
    found = stacked(norm, x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found[1], nn.BatchNorm1d(4)(x))


def test_one_value_per_channel_is_refused_as_by_pytorch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        stacked(nn.BatchNorm1d(3), torch.ones(1, 3))
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False))
    for verify in (True, False):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            NodePerturbation(net, squared_error, "np", verify=verify)(
                torch.ones(1, 3), torch.ones(1, 3)
            )


class Fixed(nn.Module):
    """Batch normalisation that autograd takes for an affine function."""

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.dim())]
        mean = x.detach().mean(dims, keepdim=True)
        return (x - mean) * (x.detach().var(dims, correction=0, keepdim=True) + 1e-5).rsqrt()


def dense(norm=None) -> nn.Sequential:
    norm = nn.BatchNorm1d(6, affine=False) if norm is None else norm
    return nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), nn.Linear(6, 2)).to(D)


def convolutional(norm=None) -> nn.Sequential:
    norm = nn.BatchNorm2d(3).requires_grad_(False) if norm is None else norm
    first = nn.Conv2d(1, 3, 3)
    return nn.Sequential(first, norm, nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)).to(D)


@pytest.mark.parametrize(("make", "shape"), [(dense, (4,)), (convolutional, (1, 4, 4))])
def test_np_is_the_gradient_at_fixed_statistics(make, shape) -> None:
    torch.manual_seed(0)
    net = make()
    fixed = make(Fixed())
    fixed.load_state_dict(net.state_dict(), strict=False)
    x, y = torch.randn(3, *shape, dtype=D), torch.randn(3, 2, dtype=D)
    truth = autograd_gradients(fixed, squared_error, x, y)
    for name, found in np_gradients(net, squared_error, x, y).items():
        torch.testing.assert_close(found, truth[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rule", ["np", "anp", "innovation", "mirrored"])
@pytest.mark.filterwarnings("ignore:.*credit")
def test_a_step_updates_running_statistics_once(rule: str) -> None:
    torch.manual_seed(0)
    net = dense()
    plain = copy.deepcopy(net)
    estimator = NodePerturbation(net, squared_error, rule, resamples=3)
    for _ in range(3):
        x, y = torch.randn(B, 4, dtype=D), torch.randn(B, 2, dtype=D)
        estimate, expected = estimator(x, y), plain(x)
        torch.testing.assert_close(estimate.output, expected.detach())
    for one, other in zip(plain[1].buffers(), net[1].buffers(), strict=True):
        torch.testing.assert_close(other, one)
    assert pairs(estimator) and int(net[1].num_batches_tracked) == 3


@pytest.mark.parametrize(("rule", "warns"), [("np", True), ("innovation", True), ("dfa", False)])
def test_a_raw_rule_warns_of_fixed_statistics(rule: str, warns: bool) -> None:
    estimator = NodePerturbation(dense(), squared_error, rule)
    estimator(torch.randn(B, 4, dtype=D), torch.randn(B, 2, dtype=D))
    assert ("fixed statistics" in [note.kind for note in estimator.notes]) == warns


def test_a_trial_updates_running_statistics_in_every_step() -> None:
    torch.manual_seed(0)
    layers = nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), Leaky(0.9), nn.Linear(6, 2)
    system = Spiking(nn.Sequential(*layers), steps=4).to(D)
    plain = copy.deepcopy(system)
    x, y = torch.randn(B, 1, 4, dtype=D), torch.randn(B, 2, dtype=D)
    estimate = NodePerturbation(system, squared_error, "np", sigma=0.1)(x, y)
    torch.testing.assert_close(estimate.output, plain(x).detach())
    for one, other in zip(plain.buffers(), system.buffers(), strict=True):
        torch.testing.assert_close(other, one)
    assert int(layers[1].num_batches_tracked) == 4


# Random masks


class Owner(nn.Module):
    """A module with declared noise that holds a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.dropout = Source(1), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x)


def dropped_weight(net: nn.Module, x: Tensor) -> Tensor:
    """A mask of a weight (15, 6): as many rows as three passes of five."""
    return F.linear(x, F.dropout(net.layer.weight, 0.5))


def attended(net: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = net.mha(x, x, x, need_weights=net.weights)[0]
    return found


def attention(weights: bool) -> nn.Module:
    net = Fn(attended, mha=nn.MultiheadAttention(6, 2, dropout=0.5, batch_first=True))
    net.weights = weights
    return net


KERNEL = "_scaled_dot_product_flash_attention_for_cpu"


def fused(net: nn.Module, x: Tensor) -> Tensor:
    """A fused kernel, which draws dropout inside."""
    q = x.unflatten(2, (2, 3)).transpose(1, 2)
    kernel = getattr(torch.ops.aten, KERNEL)
    return kernel(q, q, q, 0.5)[0].transpose(1, 2).flatten(2)


MASKS = {
    "Dropout": nn.Dropout(0.5),
    "Dropout in place": nn.Sequential(nn.Identity(), nn.Dropout(0.5, inplace=True)),
    "Dropout1d": nn.Dropout1d(0.5),
    "AlphaDropout": nn.AlphaDropout(0.5),
    "FeatureAlphaDropout": nn.FeatureAlphaDropout(0.5),
    "native dropout": Fn(lambda net, x: torch.native_dropout(x, 0.5, True)[0]),
    "RReLU": nn.RReLU(),
    "RReLU in place": nn.RReLU(inplace=True),
    "gumbel": Fn(lambda net, x: F.gumbel_softmax(x)),
    "Bernoulli": Fn(lambda net, x: torch.bernoulli(x.sigmoid())),
    "Bernoulli p": Fn(lambda net, x: x * torch.bernoulli(x, 0.5)),
    "Bernoulli in place": Fn(lambda net, x: torch.empty_like(x).bernoulli_(x.sigmoid())),
    "normal": Fn(lambda net, x: torch.normal(x, 1.0)),
    "normal, std": Fn(lambda net, x: torch.normal(0.0, x.abs())),
    "normal of a size": Fn(lambda net, x: x + torch.normal(0.0, 1.0, (len(x), 1, 1))),
    "rand_like": Fn(lambda net, x: x + torch.rand_like(x)),
    "randint": Fn(lambda net, x: x + torch.randint(9, x.shape)),
    "rows second": Fn(lambda net, x: F.dropout(x.transpose(0, 1)).transpose(0, 1)),
    "one for all": Fn(lambda net, x: x * torch.rand(())),
    "attention": attention(weights=False),
    "attention, weights": attention(weights=True),
    "fused attention": Fn(fused),
    "a recurrent layer": Fn(
        lambda net, x: net.rnn(x)[0], rnn=nn.LSTM(6, 4, 2, dropout=0.5, batch_first=True)
    ),
    "beside declared noise": Owner(),
    "encoder": nn.TransformerEncoderLayer(6, 2, 8, batch_first=True),
}


@pytest.mark.parametrize("name", MASKS)
def test_equal_passes_give_equal_results(name: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(B, 4, 6)
    one, other = stacked(MASKS[name], x), stacked(MASKS[name], x, seed=1)
    for p in range(1, PASSES):
        torch.testing.assert_close(one[p], one[0])
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "AlphaDropout", "attention", "Bernoulli"])
def test_the_numbers_are_those_of_the_reference_pass_alone(name: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(B, 4, 6)
    found = stacked(MASKS[name], x)
    torch.manual_seed(0)
    with torch.no_grad():
        torch.testing.assert_close(found[0], MASKS[name](x))


def test_the_slopes_of_rrelu_have_their_law() -> None:
    x = torch.full((1000, 10), -1.0)
    found = -stacked(nn.RReLU(0.1, 0.3), x)[1]
    assert float(found.min()) >= 0.1 and float(found.max()) <= 0.3
    assert float(found.mean()) == pytest.approx(0.2, abs=2e-3)  # 3.5 standard errors


def test_fused_attention_is_the_plain_one() -> None:
    """Kept scores are those of the softmax, divided by 1 − p."""
    torch.manual_seed(0)
    x = torch.randn(B, 4, 6)
    q = x.unflatten(2, (2, 3)).transpose(1, 2)
    found = stacked(Fn(fused), x)[0]
    torch.manual_seed(0)
    scores = (q @ q.transpose(-2, -1) / 3**0.5).softmax(-1)
    expected = (scores * torch.empty_like(scores).bernoulli_(0.5) * 2) @ q
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(2))


def test_the_mask_of_a_weight_has_no_rows() -> None:
    """A weight may have as many rows as the batch, and its mask is drawn as a whole."""
    net = Fn(dropped_weight, layer=nn.Linear(6, B * PASSES, bias=False))
    nn.init.ones_(net.layer.weight)
    x = torch.eye(6)[:B]
    found = stacked(net, x)
    torch.testing.assert_close(found[1], found[0])
    parts = found[0].T.unflatten(0, (PASSES, B))  # the mask, by rows of the weight
    assert not torch.equal(parts[0], parts[1])


class Mask(nn.Module):
    """Multiplies every pass with the same given mask."""

    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask.repeat(len(x) // len(self.mask), 1)


@pytest.mark.parametrize("units", [[nn.Tanh()], []])
@pytest.mark.parametrize("rule", ["np", "anp", "inp", "innovation", "mirrored"])
def test_a_rule_sees_the_network_of_its_mask(rule: str, units: list[nn.Module]) -> None:
    """Over four steps, K = 3: the network with the masks that PyTorch draws."""
    grads = []
    for made in (nn.Dropout(0.5), Mask()):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), made, *units, nn.Linear(6, 2)).to(D)
        system = net if isinstance(made, nn.Dropout) else Fn(lambda net, x: net.body(x), body=net)
        estimator = NodePerturbation(system, squared_error, rule, resamples=3, sigma=0.1, seed=1)
        x, y = torch.randn(B, 4, dtype=D), torch.randn(B, 2, dtype=D)
        made.mask = torch.ones(B, 6, dtype=D)
        for step in range(4):
            torch.manual_seed(step)
            if isinstance(made, Mask):
                made.mask = F.dropout(torch.ones(B, 6, dtype=D), 0.5)
            estimator(x, y)
        grads.append([p.grad for p in net.parameters()])
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected)


def own_noise(net: nn.Module, x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


@pytest.mark.parametrize("injects", [True, False])
def test_noise_that_is_declared_differs_between_passes(injects: bool) -> None:
    class Owns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source = Source(3)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.source.normal(x)

    x = torch.zeros(B, 6)
    noisy = Noisy(nn.Identity(), Fn(own_noise))
    for module in (AdditiveGaussian(0.1, 1), noisy, Owns(), Fn(own_noise), nn.Dropout(0.5)):
        with torch.no_grad(), Paired(module, B, PASSES, injects):
            out = module(torch.cat([x + 1] * PASSES)).unflatten(0, (PASSES, B))
        undeclared = isinstance(module, nn.Dropout) or (injects and isinstance(module, Fn))
        assert torch.equal(out[1], out[0]) == undeclared, module


def test_intrinsic_noise_is_all_that_differs() -> None:
    """Noise of 1e-6; another mask would make differences of about 1."""
    torch.manual_seed(0)
    first, last = (AdditiveGaussian(1e-6, seed) for seed in (1, 2))
    layers = Noisy(nn.Linear(4, 6), first), nn.Dropout(0.5), Noisy(nn.Linear(6, 2), last)
    estimator = NodePerturbation(nn.Sequential(*layers), squared_error, "anp", sigma=None)
    found = estimator.credit(torch.randn(B, 4), torch.randn(B, 2))
    sizes = [float(call.delta.abs().max()) for call in found.calls]
    assert all(1e-7 < size < 1e-4 for size in sizes), sizes


# When


def test_plain_systems_need_no_pairing() -> None:
    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 2))
    assert not needs_pairing(plain, strangers=True)
    stranger = nn.Sequential(nn.Linear(4, 6), Fn(lambda net, x: x.relu()), nn.Linear(6, 2))
    x, y = torch.randn(B, 4), torch.randn(B, 2)
    for net, verify, paired in [
        (plain, False, False),
        (stranger, True, False),
        (stranger, False, True),
    ]:
        estimator = NodePerturbation(net, squared_error, "np", verify=verify)
        estimator(x, y)
        assert pairs(estimator) == paired


@pytest.mark.parametrize("verify", [True, False])
def test_what_only_a_pass_shows_is_paired(verify: bool) -> None:
    torch.manual_seed(0)
    middle = Fn(lambda net, x: F.batch_norm(F.dropout(x, 0.5, True), None, None, training=True))
    net = nn.Sequential(nn.Linear(4, 6), middle, nn.Linear(6, 2))
    estimator = NodePerturbation(net, squared_error, "np", sigma=1e-3, verify=verify)
    found = estimator.credit(torch.randn(B, 4), torch.randn(B, 2))
    delta = found.calls[1].delta
    assert float(delta.abs().max()) < 0.05  # another mask makes a difference of about 1
    assert pairs(estimator)


def test_statistics_over_several_processes_are_refused() -> None:
    with pytest.raises(SystemRefused, match=r"'1' \(SyncBatchNorm\): .*noisynets\.freeze"):
        check(nn.Sequential(nn.Linear(3, 2), nn.SyncBatchNorm(2, affine=False)))


# Passes one after the other


class Noted(nn.Module):
    """Keeps what left a module in every pass."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.seen = module, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.module(x).clone())
        return self.seen[-1]


@pytest.mark.parametrize("kind", [WeightPerturbation, SPSA])
def test_weight_perturbation_keeps_its_mask_and_updates_once(kind) -> None:
    torch.manual_seed(0)
    mask = Noted(Fn(lambda net, x: F.dropout(torch.ones_like(x), 0.5)))
    noise = Noted(AdditiveGaussian(0.1, seed=1))
    norm = nn.BatchNorm1d(6)
    net = nn.Sequential(nn.Linear(4, 6), norm, mask, noise, nn.Linear(6, 2))
    x, y = torch.randn(B, 4), torch.randn(B, 2)
    estimator = kind(net, squared_error, sigma=1e-4)
    for step in range(2):
        estimator(x, y)
        one, other = mask.seen[-2:]
        assert torch.equal(one, other)
        assert not torch.equal(*noise.seen[-2:])
        assert int(norm.num_batches_tracked) == step + 1
    assert not torch.equal(mask.seen[0], mask.seen[-1])
    a = net[0](x)
    expected = (1 - 0.9**2) * a.mean(0)  # of two updates from 0
    torch.testing.assert_close(norm.running_mean, expected.detach(), rtol=0, atol=1e-3)


# Freezing


def test_what_is_frozen_stays_frozen() -> None:
    torch.manual_seed(0)
    inside = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5))
    net = nn.Sequential(nn.Linear(4, 6), freeze(inside), nn.Linear(6, 2))
    found = [net, copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for system in found:
        assert system.train() is system
        before = {name: value.clone() for name, value in system[1].state_dict().items()}
        estimator = NodePerturbation(system, squared_error, "np")
        estimator(torch.randn(B, 4), torch.randn(B, 2))
        assert system[0].training and not any(m.training for m in system[1].modules())
        assert all(torch.equal(before[n], v) for n, v in system[1].state_dict().items())
        assert not pairs(estimator) and not system[1][0].weight.requires_grad
        assert system[1].train() is system[1]
    unfreeze(inside)
    assert all(m.training for m in net.modules()) and inside[0].weight.requires_grad
    assert not any(m.training for m in net.eval().modules())
    assert not any(m.training for m in found[1][1].modules())


def test_train_after_freezing_by_hand_is_warned_of() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    net[1].eval().requires_grad_(False)
    estimator = NodePerturbation(net, squared_error, "np")
    estimator(torch.randn(B, 4), torch.randn(B, 2))
    net.train()
    with pytest.warns(UserWarning, match=r"^'1': weight and bias are frozen.*noisynets\.freeze"):
        estimator(torch.randn(B, 4), torch.randn(B, 2))
    assert [n.kind for n in estimator.notes] == ["unfrozen statistics", "fixed statistics"]
