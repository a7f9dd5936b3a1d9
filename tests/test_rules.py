"""Raw rules, which do not start from the error: their mean, and plain loops for special cases.

`test_battery` has what every rule passes.
"""

import numpy as np
import pytest
import reference
import torch
from cases import (
    SYSTEM_CASES,
    Replay,
    as_lists,
    cosine,
    flat,
    gradients,
    regression_batch,
    smooth_mlp,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisynets import RULES, Backpropagation, NodePerturbation, Noisy, squared_error

RAW = [name for name, entry in RULES.items() if not entry.sends_error]
every_rule = pytest.mark.parametrize("rule", RAW)
papers_rules = pytest.mark.parametrize("rule", ["np", "inp", "anp"])
every_system = pytest.mark.parametrize("system", SYSTEM_CASES)


def setup(system: str = "mlp", seed: int = 0, batch: int = 3):
    make, shape, outputs = SYSTEM_CASES[system]
    generator = torch.Generator().manual_seed(seed)
    net = make(generator)
    return net, *regression_batch(generator, shape, outputs, batch)


def exact(net, x, y):
    Backpropagation(net, squared_error)(x, y)
    return gradients(net)


def estimated(net, x, y, rule, **settings):
    NodePerturbation(net, squared_error, rule, **settings)(x, y)
    return gradients(net)


@every_system
@every_rule
def test_mean_over_draws_is_the_gradient_or_descends(rule: str, system: str) -> None:
    """20,000 draws: unbiased rules reach the gradient, the others point down in every layer.

    Not in every parameter: behind the norm, `anp` has cosine -0.1 with the output's bias.
    """
    net, x, y = setup(system)
    truth = exact(net, x, y)
    estimator = NodePerturbation(net, squared_error, rule, sigma=1e-4, resamples=1000)
    for _ in range(20):
        estimator(x, y)
    mean = {name: g / 20 for name, g in gradients(net).items()}
    if RULES[rule].traits.unbiased:
        assert cosine(flat(mean), flat(truth)) >= 0.99
        ratio = flat(mean).norm() / flat(truth).norm()
        assert ratio == pytest.approx(1, abs=0.05)
    else:
        for layer in {name.rpartition(".")[0] for name in truth}:
            found, expected = (
                flat({n: g for n, g in grads.items() if n.rpartition(".")[0] == layer})
                for grads in (mean, truth)
            )
            assert cosine(found, expected) > 0.1, layer


@pytest.mark.parametrize("scaling", ["root", "variance"])
def test_scalings_agree_with_plain_loops(scaling: str) -> None:
    net, x, y = setup()
    noise = Replay()
    found = estimated(net, x, y, RULES["anp"].make(0, scaling=scaling), sigma=0.1, noise=noise)
    xi = [(0.1 * z).tolist() for z in noise.kept]
    assert_agrees(
        found, reference.anp_rule(as_lists(net), x.tolist(), y.tolist(), xi, 0.1, scaling)
    )


class _Tape(nn.Module):
    """Adds noise that was written down beforehand, to all stacked rows at once."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, a):
        return a + self.rows


@pytest.mark.parametrize("K", [1, 2])
def test_intrinsic_mode_agrees_with_plain_loops(K: int) -> None:
    """Both passes noisy, nothing injected: the credit still is δL δa N/‖δa‖², on x of pass 0."""
    net, x, y = setup()
    layers = as_lists(net)
    tapes = [0.2 * torch.randn((1 + K) * 3, n, dtype=torch.float64) for n in (5, 3)]
    noisy = nn.Sequential(Noisy(net[0], _Tape(tapes[0])), net[1], Noisy(net[2], _Tape(tapes[1])))
    found = estimated(noisy, x, y, "anp", sigma=None, resamples=K, verify=False)  # tapes
    passes = [t.unflatten(0, (1 + K, 3)) for t in tapes]
    xi = [p[1:].tolist() for p in passes]
    own = [p[0].tolist() for p in passes]
    expected = reference.anp_rule(layers, x.tolist(), y.tolist(), xi, 0.0, reference=own)
    assert_agrees(found, expected)


@papers_rules
def test_a_convolution_agrees_with_plain_loops(rule: str) -> None:
    """One convolution: every output position is a node, and its credit meets its own patch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1)).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64)
    y = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    noise, sigma = Replay(), 0.1
    found = estimated(net, x, y, rule, sigma=sigma, noise=noise)
    W, b = net[0].weight.detach().numpy(), net[0].bias.detach().numpy()
    expected = np.zeros_like(W)
    for s in range(2):
        xi = sigma * noise.kept[0][0, s].numpy()
        clean = reference.conv2d(x[s].numpy(), W, b, 2, 1)
        t = y[s].numpy()
        dL = (((clean + xi) - t) ** 2 - (clean - t) ** 2).sum() / 2
        credit_np, credit_norm = 1 / sigma**2, xi.size / (xi**2).sum()
        factor = credit_np if rule == "np" else credit_norm
        padded = np.pad(x[s].numpy(), ((0, 0), (1, 1), (1, 1)))
        for o, i, j in np.ndindex(*clean.shape):
            patch = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected[o] += dL * xi[o, i, j] * factor * patch / 2
    np.testing.assert_allclose(found["0.weight"].numpy(), expected, rtol=1e-10, atol=1e-10)


def assert_agrees(found, expected) -> None:
    values = list(found.values())
    for l, (W, b) in enumerate(expected):
        np.testing.assert_allclose(values[2 * l].numpy(), W, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(values[2 * l + 1].numpy(), b, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    batch=st.integers(1, 5),
    K=st.integers(1, 4),
    rule=st.sampled_from(RAW),
)
def test_any_shape_gives_finite_gradients_of_every_parameter(widths, batch, K, rule) -> None:
    net = smooth_mlp(torch.Generator().manual_seed(0), tuple(widths))
    x, y = regression_batch(torch.Generator().manual_seed(1), (widths[0],), widths[-1], batch)
    estimate = NodePerturbation(net, squared_error, rule, resamples=K)(x, y)
    grads = gradients(net)
    assert grads.keys() == dict(net.named_parameters()).keys()
    assert all(g.isfinite().all() for g in grads.values())
    per_node = RULES[rule].make(0).needs(net).per_node
    passes = K * (len(widths) - 1) if per_node else K
    assert estimate.sample_forwards == (1 + passes) * batch
    torch.testing.assert_close(estimate.output, net(x).detach())


@every_rule
def test_a_layer_called_twice_sums_its_credit(rule: str) -> None:
    """Weight sharing over calls: the mean is the gradient through both calls.

    Exactly so for NP; the others measure, at the second call, the noise of the first one too.
    """

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(4, 4).double()
            self.readout = nn.Linear(4, 2).double()

        def forward(self, x):
            return self.readout(torch.tanh(self.shared(torch.tanh(self.shared(x)))))

    torch.manual_seed(0)
    net = Twice()
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    truth = exact(net, x, y)
    mean = estimated(net, x, y, rule, sigma=1e-4, resamples=20_000)
    assert cosine(flat(mean), flat(truth)) > (0.99 if rule == "np" else 0.9)


@papers_rules
@pytest.mark.parametrize("scaling", ["count", "root"])
def test_a_shared_layer_agrees_with_plain_loops(rule: str, scaling: str) -> None:
    """Two calls of one layer: N, the norm and the credit count both; its passes split."""
    shared = nn.Linear(4, 4).double()
    net = nn.Sequential(shared, nn.Tanh(), shared)
    torch.manual_seed(0)
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    noise, sigma = Replay(), 0.1
    options = {"scaling": scaling} if "scaling" in RULES[rule].options else {}
    made = RULES[rule].make(0, **options)
    found = estimated(net, x, y, made, sigma=sigma, noise=noise)
    W, b = shared.weight.detach(), shared.bias.detach()
    first, second = (sigma * z[0] for z in noise.kept)
    h = torch.tanh(x @ W.T + b)
    clean = h @ W.T + b
    noisy = torch.tanh(x @ W.T + b + first) @ W.T + b + second
    dL = ((noisy - y) ** 2 - (clean - y) ** 2).sum(1, keepdim=True) / 2
    if rule == "np":
        credits = [dL * first / sigma**2, dL * second / sigma**2]
    else:
        norm = (first**2).sum(1, keepdim=True) + ((noisy - clean) ** 2).sum(1, keepdim=True)
        factor = dL * {"count": 8, "root": 8**0.5}[scaling] / norm
        credits = [factor * first, factor * (noisy - clean)]
    expected = (credits[0].T @ x + credits[1].T @ h) / 3
    torch.testing.assert_close(found["0.weight"], expected, rtol=1e-9, atol=1e-10)


@every_rule
def test_a_state_that_is_overwritten_in_place_is_reported_as_it_was(rule: str) -> None:
    """A recurrent system may reuse its state's memory; the estimate is the same."""

    class Recurrent(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.enter = nn.Linear(4, 5).double()
            self.again = nn.Linear(5, 5).double()
            self.in_place = in_place

        def forward(self, x):
            h = torch.zeros(len(x), 5, dtype=x.dtype)
            for _ in range(3):
                a = torch.tanh(self.enter(x) + self.again(h))
                h = h.mul_(0.5).add_(a) if self.in_place else 0.5 * h + a
            return h

    torch.manual_seed(0)
    careful, thrifty = Recurrent(False), Recurrent(True)
    thrifty.load_state_dict(careful.state_dict())
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    grads = [estimated(net, x, y, rule, sigma=0.1) for net in (careful, thrifty)]
    assert torch.equal(flat(grads[0]), flat(grads[1]))


def test_pairs_without_a_difference_give_no_credit_and_no_nan() -> None:
    """A coarse quantiser hides the noise of some samples altogether."""

    class Coarse(nn.Module):
        def forward(self, a):
            return torch.round(4 * (a + 0.03 * torch.randn_like(a))) / 4

    torch.manual_seed(0)
    net = nn.Sequential(Noisy(nn.Linear(4, 3), Coarse()))
    x, y = torch.randn(200, 4), torch.randn(200, 3)
    grads = estimated(net, x, y, "anp", sigma=None)
    assert all(g.isfinite().all() and g.any() for g in grads.values())


def test_descends_where_a_node_has_no_noise_of_its_own() -> None:
    """A quiet readout behind noisy nodes is counted by its propagated noise alone."""
    generator = torch.Generator().manual_seed(0)
    net = smooth_mlp(generator, (4, 6, 3))
    x, y = regression_batch(generator, (4,), 3)
    truth = exact(net, x, y)
    pairs = 20_000
    tape = _Tape(0.01 * torch.randn(2 * pairs * 3, 6, dtype=torch.float64, generator=generator))
    noisy = nn.Sequential(Noisy(net[0], tape), *net[1:])
    with pytest.warns(UserWarning, match="'2': no noise of its own"):
        many = x.repeat(pairs, 1), y.repeat(pairs, 1)
        mean = estimated(noisy, *many, "anp", sigma=None, verify=False)  # a tape has as many rows
    values = dict(zip(truth, mean.values(), strict=True))
    assert cosine(values["0.weight"], truth["0.weight"]) > 0.9
    assert cosine(values["2.weight"], truth["2.weight"]) > 0.5  # the quiet readout itself
