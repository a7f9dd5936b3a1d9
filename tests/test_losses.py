"""The error at the output: known, in closed form, or measured where there is no derivative."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import cosine, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisynets import (
    RULES,
    SPSA,
    Backpropagation,
    Corrected,
    InputError,
    KnownError,
    MeasuredError,
    NodePerturbation,
    WeightPerturbation,
    cross_entropy,
    squared_error,
)
from noisynets.core.losses import DERIVATIVES, sequence_cross_entropy

F64 = torch.float64


def test_a_loss_without_a_derivative_is_refused() -> None:
    net = nn.Sequential(nn.Linear(6, 3))

    def errors(output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) != target).float()

    with pytest.raises(InputError, match="this loss has no derivative"):
        NodePerturbation(net, errors, "mirrored")(torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1]))


def numpy_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """A loss that torch cannot see into."""
    z = output.detach().numpy()
    z = z - z.max(1, keepdims=True)
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), target.numpy()]
    return torch.from_numpy(losses)


def test_a_measured_error_agrees_with_the_derivative_in_the_mean() -> None:
    """On correlated outputs, 20,000 draws, cosine above 0.99."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 5)).double()
    x, y = torch.randn(1, 6, dtype=F64).expand(50, 6), torch.full((50,), 2)
    estimator = NodePerturbation(
        net, numpy_cross_entropy, "mirrored", sigma=1e-2, resamples=8, error=MeasuredError()
    )
    for _ in range(50):
        estimator(x, y)
    found = net[2].bias.grad / 50
    true = net(x[:1]).softmax(1)[0] - F.one_hot(torch.tensor(2), 5)
    assert cosine(found, true.detach()) > 0.99


@pytest.mark.parametrize("rule", ["mirrored", "learned", "dfa", "frozen"])
def test_a_loss_without_a_derivative_is_learnt_from_its_differences(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 20), nn.LeakyReLU(0.1), nn.Linear(20, 3))
    x = torch.randn(200, 8)
    y = x[:, :3].argmax(1)
    with pytest.raises(InputError, match=r"error=MeasuredError\(\)"):
        NodePerturbation(net, numpy_cross_entropy, rule, sigma=0.05)(x, y)
    estimator = NodePerturbation(net, numpy_cross_entropy, rule, sigma=0.05, error=MeasuredError())
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        estimator(x, y)
        optimiser.step()
    assert (net(x).argmax(1) == y).float().mean() > 0.75  # chance is a third


def test_raw_rules_have_no_error_to_measure() -> None:
    with pytest.raises(InputError, match="ANP does not use the error at the output"):
        NodePerturbation(
            nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
            squared_error,
            "anp",
            error=MeasuredError(),
        )


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("rule", ["mirrored", "learned", "share"])
def test_measured_errors_do_not_turn_credit_round(rule: str, measured: bool) -> None:
    """Mean over many rows, after 30 calls: positive alignment in every layer."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    error = MeasuredError() if measured else KnownError()
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.01, error=error)
    x, y = torch.randn(4, 6).repeat(5000, 1), torch.randn(4, 3).repeat(5000, 1)
    for _ in range(30):
        net.zero_grad()
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    for name, true in gradients(net).items():
        assert cosine(found[name], true) > 0.3, name


def test_what_is_made_of_the_loss_difference_is_not_corrected_by_it() -> None:
    for entry in RULES.values():
        if entry.uses_dloss:
            with pytest.raises(InputError, match="nothing is left"):
                Corrected(entry.make(0))
    with pytest.raises(InputError, match="both come from δL"):
        NodePerturbation(
            nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)),
            squared_error,
            Corrected(RULES["dfa"].make(0)),
            error=MeasuredError(),
        )


def test_a_broken_first_batch_teaches_nothing_of_the_error() -> None:
    torch.manual_seed(0)
    measured, e = MeasuredError(), torch.randn(3)
    for step in range(60):
        y = torch.cat([torch.zeros(1, 40, 3), torch.randn(50, 40, 3)])
        dloss = (y[1:] @ e).clone()
        if step == 0:
            y[2, 1, 0] = math.nan
        found = measured(squared_error, y.flatten(0, 1), torch.zeros(40, 3), dloss)
    assert (found[0].mean(0) - e).norm() < 0.1 * e.norm()


@pytest.mark.parametrize("loss", DERIVATIVES)
def test_closed_derivatives_are_those_of_autograd(loss) -> None:
    """Of rows that are left out, too; a loss that cannot be hashed is differentiated."""
    torch.manual_seed(0)
    outputs = torch.randn(6, 4, dtype=torch.float64)
    targets = {
        cross_entropy: torch.tensor([0, 3, -100, 1, 2, 3]),
        squared_error: torch.randn(6, 4).double(),
        sequence_cross_entropy: torch.tensor([[0, 3], [-100, 1], [2, 3]]),
    }[loss]
    if loss is sequence_cross_entropy:
        outputs = outputs.view(3, 2, 4)

    class Unhashable:
        __hash__ = None

        def __call__(self, outputs, targets):
            return loss(outputs, targets)

    closed, none = DERIVATIVES[loss](outputs, targets), torch.zeros(0, len(targets))
    torch.testing.assert_close(closed, KnownError()(Unhashable(), outputs, targets, none)[0])
    assert torch.equal(closed, KnownError()(loss, outputs, targets, none)[0])


# --- kinds of numbers --------------------------------------------------------------------------

KINDS = {
    "float16": lambda v: v.half(),
    "bfloat16": lambda v: v.bfloat16(),
    "float64": lambda v: v.double(),
    "int8": lambda v: v.to(torch.int8),
    "int64": lambda v: v.long(),
    "bool": lambda v: v > 1,
    "numpy": lambda v: v.detach().numpy(),
    "numpy float16": lambda v: v.detach().numpy().astype(np.float16),
    "numpy int": lambda v: v.detach().numpy().astype(np.int32),
    "numpy bool": lambda v: v.detach().numpy() > 1,
    "list": lambda v: v.tolist(),
    "numpy scalars": lambda v: list(v.detach().numpy()),
    "list of tensors": lambda v: list(v),
    "tuple of ints": lambda v: tuple(int(x) for x in v),
    "column": lambda v: v[:, None],
    "nested": lambda v: [[x, 0] for x in v.tolist()],
}
"""From losses (R,) to what a user's loss may return."""

WRONG = {
    "complex": lambda v: v + 1j,
    "complex array": lambda v: v.detach().numpy() + 1j,
    "mean": lambda v: v.mean(),
    "float": lambda v: float(v.mean()),
    "numpy mean": lambda v: v.detach().numpy().mean(),
    "short": lambda v: v[1:],
    "text": lambda v: ["a"] * len(v),
    "objects": lambda v: np.array([None] * len(v)),
    "none": lambda v: None,
    "ragged": lambda v: [torch.zeros(i) for i in range(len(v))],
}


def whole_numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss whose values are exact in every kind of number that they are given in."""
    return (outputs.detach() > targets).float().sum(1)


@pytest.mark.filterwarnings("ignore:sigma 0.5 moves the loss")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_loss_of_any_real_kind_gives_the_same_estimate(kind: str, seed: int) -> None:
    """As float32 values do, whatever the estimator."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(20, 4, generator=generator), torch.randn(20, 3, generator=generator)
    convert = KINDS[kind]

    def plain(outputs: Tensor, targets: Tensor) -> Tensor:
        values = whole_numbers(outputs, targets)
        return (values > 1).float() if "bool" in kind else values

    def given_so(outputs: Tensor, targets: Tensor):
        return convert(whole_numbers(outputs, targets))

    makers = (
        lambda net, loss: NodePerturbation(net, loss, "anp", sigma=0.5),
        lambda net, loss: NodePerturbation(net, loss, "mirrored", sigma=0.5, error=MeasuredError()),
        lambda net, loss: WeightPerturbation(net, loss, sigma=0.5),
        lambda net, loss: SPSA(net, loss, sigma=0.5),
    )
    for make in makers:
        found = []
        for loss in (plain, given_so):
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
            estimate = make(net, loss)(x, y)
            assert estimate.loss.is_floating_point() and estimate.loss.shape == (20,)
            found.append(torch.cat([g.flatten() for g in gradients(net).values()]))
        torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("rule", ["anp", "mirrored"])
def test_a_loss_of_no_such_kind_is_refused_in_one_line(kind: str, rule: str) -> None:
    def loss(outputs: Tensor, targets: Tensor):
        return WRONG[kind](whole_numbers(outputs, targets) + outputs.sum(1))

    net = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(InputError, match="the loss") as error:
        NodePerturbation(net, loss, rule)(torch.randn(5, 4), torch.randn(5, 3))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rule", RULES)
def test_a_loss_of_another_dtype_than_the_network_gives_the_same_gradients(rule, dtype) -> None:
    """Up to the precision of the loss."""
    x, y = torch.randn(30, 4), torch.randn(30, 3)
    found = []
    for to in (torch.float32, dtype):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

        def loss(outputs: Tensor, targets: Tensor, to: torch.dtype = to) -> Tensor:
            return (outputs - targets).to(to).square().sum(1)

        estimator = NodePerturbation(net, loss, rule, sigma=0.3)
        for _ in range(2):
            estimator(x, y)
        found.append(torch.cat([g.flatten() for g in gradients(net).values()]))
    assert found[1].dtype == torch.float32
    assert cosine(*found) > (0.9 if dtype == torch.bfloat16 else 0.99)


def test_a_loss_without_a_derivative_is_refused_by_backpropagation() -> None:
    with pytest.raises(InputError, match="no derivative"):
        Backpropagation(nn.Linear(4, 3), whole_numbers)(torch.randn(5, 4), torch.randn(5, 3))
