"""PositionPerturbation against autograd and plain loops."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from noisynets import (
    InputError,
    Node,
    NodePerturbation,
    PositionPerturbation,
    SystemRefused,
    find_nodes,
)
from noisynets.core.losses import sequence_cross_entropy
from noisynets.core.record import NodeRecord
from noisynets.estimators.position_perturbation import credit, to_go
from noisynets.systems.models.transformer import gpt
from noisynets.systems.settings import NetworkSettings


class Mixing(nn.Module):
    """Adds to every position half of the one before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]


def causal() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(3, 4), nn.Tanh(), Mixing(), nn.Linear(4, 5)
    return nn.Sequential(*layers).double()


def sequences(rows: int = 4, steps: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, steps, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(5, (rows, steps), generator=generator)


def node(layer: nn.Module | None = None) -> Node:
    return find_nodes(nn.Sequential(layer or nn.Linear(3, 5)))[0]


def of(system: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in system.parameters()])


def gradient(system: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = sequence_cross_entropy(system(x), y).sum(1).mean()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(system.parameters()))])


def estimated(estimator: PositionPerturbation, x: Tensor, y: Tensor) -> Tensor:
    estimator.system.zero_grad()
    estimator(x, y)
    return of(estimator.system)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum(1)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, 0))


def test_the_mean_is_the_gradient_of_a_causal_network() -> None:
    system, (x, y) = causal(), sequences()
    exact = gradient(system, x, y)
    estimator = PositionPerturbation(
        system, sequence_cross_entropy, sigma=1e-3, resamples=20_000, discount=1.0
    )
    found = estimated(estimator, x, y)
    assert cosine(found, exact) > 0.995
    assert float(found.norm() / exact.norm()) == pytest.approx(1, abs=0.03)


def test_its_own_loss_alone_misses_what_a_position_does_to_later_ones() -> None:
    system, (x, y) = causal(), sequences()
    exact = gradient(system, x, y)
    first = system[0].weight.numel()
    own = PositionPerturbation(
        system, sequence_cross_entropy, sigma=1e-3, resamples=20_000, discount=0.0
    )
    found = estimated(own, x, y)
    assert cosine(found[:first], exact[:first]) < 0.99
    last = slice(-25, None)  # behind the mixing
    assert cosine(found[last], exact[last]) > 0.995


@pytest.mark.parametrize("discount", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("known", [False, True])
def test_the_credit_is_that_of_plain_loops(discount: float, known: bool) -> None:
    rng = np.random.default_rng(0)
    passes, rows, steps, size, sigma = 3, 2, 4, 5, 0.1
    xi = sigma * rng.normal(size=(passes, rows, steps, size))
    loss = rng.normal(size=(1 + passes, rows, steps))
    before = rng.normal(size=(rows, steps, size)) * known
    expected = before.copy()
    for b in range(rows):
        for t in range(steps):
            for k in range(passes):
                left = 0.0
                for s in range(t, steps):
                    change = (loss[1 + k, b, s] - loss[0, b, s]) / rows
                    change -= xi[k, b, s] @ before[b, s]
                    left += discount ** (s - t) * change
                expected[b, t] += left * xi[k, b, t] / (passes * sigma**2)
    call = NodeRecord(node(), None, None, None, slice(0, passes), torch.tensor(xi), sigma)
    given = torch.tensor(before) if known else None
    found = credit(call, torch.tensor(loss), discount, given)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Linear(3, 1), ()),
        (nn.Linear(3, 4), (4,)),  # as many units as the loss has positions
        (nn.Linear(3, 2), (6, 2)),
        (nn.Conv1d(3, 4, 1), (4, 6)),  # as many channels
        (nn.GroupNorm(2, 4), (4, 6)),
    ],
)
def test_a_node_without_positions_has_the_sum_of_all_differences(
    layer: nn.Module, size: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    loss, xi = torch.randn(3, 2, 4).double(), torch.randn(2, 2, *size).double()
    call = NodeRecord(node(layer), None, None, None, slice(0, 2), xi, 0.1)
    change = (loss[1:] - loss[0]).sum(2) / 2
    expected = torch.einsum("kb,kb...->b...", change, xi) / (2 * 0.1**2)
    torch.testing.assert_close(credit(call, loss, 0.5), expected)


def test_known_credit_leaves_the_variance_of_what_it_does_not_predict() -> None:
    """Mirrored credit after 300 pairs: a tenth of the squared error, at most."""
    system, (x, y) = causal(), sequences()
    exact = gradient(system, x, y)
    known = NodePerturbation(system, sequence_cross_entropy, "mirrored", sigma=1e-3)
    for _ in range(300):
        known(x, y)
    plain = PositionPerturbation(system, sequence_cross_entropy, sigma=1e-3, resamples=8)
    corrected = PositionPerturbation(
        system, sequence_cross_entropy, sigma=1e-3, resamples=8, known=known
    )
    errors = [
        torch.stack([(estimated(e, x, y) - exact).square().sum() for _ in range(20)]).mean()
        for e in (plain, corrected)
    ]
    assert errors[1] < 0.1 * errors[0]


def test_one_loss_per_row_is_node_perturbation_of_one_node_at_a_time() -> None:
    torch.manual_seed(0)
    system = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()

    estimator = PositionPerturbation(system, squares, sigma=1e-4, resamples=20_000)
    found = estimated(estimator, x, y)
    grads = torch.autograd.grad(squares(system(x), y).mean(), list(system.parameters()))
    assert cosine(found, torch.cat([g.flatten() for g in grads])) > 0.995


def test_it_continues_with_the_same_bits() -> None:
    x, y = sequences()

    def fresh() -> PositionPerturbation:
        system = causal()
        known = NodePerturbation(system, sequence_cross_entropy, "mirrored", seed=3)
        return PositionPerturbation(
            system, sequence_cross_entropy, resamples=2, seed=4, known=known
        )

    whole, part = fresh(), fresh()
    for _ in range(2):
        estimated(whole, x, y)
        estimated(part, x, y)
    other = fresh()
    other.restore(part.state())
    assert torch.equal(estimated(whole, x, y), estimated(other, x, y))


def test_impossible_settings_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="a discount of 2 must be within 0..1"):
        PositionPerturbation(causal(), sequence_cross_entropy, discount=2)

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * x

    system = nn.Sequential(nn.Linear(3, 4), Bare(), nn.Linear(4, 5))
    x, y = sequences()
    with pytest.raises(SystemRefused, match=r"'1\.gain': belongs to no node"):
        PositionPerturbation(system, sequence_cross_entropy)(x.float(), y)


def test_later_losses_are_weighted() -> None:
    changes = torch.tensor([[1.0, 2.0, 4.0]])
    assert to_go(changes, 0).tolist() == [[1, 2, 4]]
    assert to_go(changes, 1).tolist() == [[7, 6, 4]]


def small_gpt() -> nn.Sequential:
    torch.manual_seed(0)
    net = gpt((6,), 5, NetworkSettings(layers=2, width=8, heads=2)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net


def watched(system: nn.Module) -> nn.Module:
    """A hook may do anything, so that a system with one is run as a whole."""
    system.register_forward_hook(lambda *_: None)
    return system


def test_beginning_with_the_link_of_a_node_changes_nothing() -> None:
    x, y = torch.randint(5, (4, 6)), torch.randint(5, (4, 6))
    whole = PositionPerturbation(watched(small_gpt()), sequence_cross_entropy, resamples=3)
    tails = PositionPerturbation(small_gpt(), sequence_cross_entropy, resamples=3)
    expected, found = (estimated(estimator, x, y) for estimator in (whole, tails))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert tails(x, y).sample_forwards == whole(x, y).sample_forwards + 4


def test_a_node_costs_what_lies_behind_it() -> None:
    layers = [nn.Linear(10, 10, bias=False) for _ in range(4)]
    system = nn.Sequential(nn.Sequential(*layers[:2]), *layers[2:])
    estimator = PositionPerturbation(system, squares, resamples=2, verify=False)
    batch = torch.randn(5, 10), torch.randn(5, 10)
    estimator(*batch)
    with FlopCounterMode(display=False) as counter:
        estimator(*batch)
    product = 2 * 5 * 10 * 10
    before, behind, weights = 3, 4 * 1 + 3 * (3 + 2 + 1), 4
    assert counter.get_total_flops() == product * (before + behind + weights)
