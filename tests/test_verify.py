"""The verification on the first batch: what it costs, what it leaves alone, when it is made."""

import numpy as np
import pytest
import torch
from own_effect import TwoLevels
from tiny import config
from torch import Tensor, nn

from noisynets import (
    AdditiveGaussian,
    InputError,
    NodePerturbation,
    Noisy,
    SystemRefused,
    cross_entropy,
    decorrelate,
    outer,
)
from noisynets.core.types import Loss
from noisynets.run.session import build
from noisynets.systems.blackbox import BlackBox, NumpyChip
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import Coloured, Telegraph
from noisynets.systems.spiking import Leaky, Spiking
from noisynets.systems.units import Bernoulli

X, Y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


class Mixed(nn.Module):
    def forward(self, x):
        return x + x.roll(1, 0)


class Groups(nn.Module):
    """Mixes the rows of a pass, and those of no other."""

    size = 1

    def forward(self, x):
        groups = x.unflatten(0, (-1, self.size))
        return (groups + groups.mean(1, keepdim=True)).flatten(0, 1)


class Global(nn.Module):
    """Noise from PyTorch's global generator."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def net(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), *middle, nn.Linear(5, 3))


def noisy(*effects: nn.Module) -> nn.Module:
    first, second = nn.Linear(4, 5), nn.Linear(5, 3)
    return nn.Sequential(Noisy(first, effects[0]), nn.ReLU(), Noisy(second, effects[1]))


NETS = {
    "additive": (lambda: noisy(AdditiveGaussian(0.1, 1), AdditiveGaussian(0.1, 2)), None),
    "in time": (lambda: noisy(Telegraph(seed=1), Coloured(0.1, memory=4, seed=2)), None),
    "numpy": (lambda: noisy(TwoLevels(0.3, 1), TwoLevels(0.3, 2)), None),
    "global": (lambda: noisy(Global(), Global()), None),
    "bernoulli": (lambda: net(Bernoulli(seed=1)), 0.1),
    "decorrelated": (lambda: decorrelate(net(nn.ReLU()), demean=True, rate=0.1), 0.1),
}


OTHERS = ("lif", "noisy-lif", "rlif", "noisy-conv", "sign-lenet")


@pytest.mark.parametrize("name", NETS)
def test_results_and_random_numbers_keep_their_bits(name: str) -> None:
    make, sigma = NETS[name]
    found = []
    for verify in (True, False):
        torch.manual_seed(0)
        np.random.seed(0)
        system = make()
        estimator = NodePerturbation(system, cross_entropy, "anp", sigma=sigma, verify=verify)
        for _ in range(2):
            estimator(X, Y)
        rest = torch.cat([torch.rand(2), torch.from_numpy(np.random.rand(2))])
        grads = [p.grad for p in system.parameters()]
        found.append([*grads, *system.state_dict().values(), rest])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("system", [*(n for n in SYSTEMS if n.endswith("mlp")), *OTHERS])
def test_no_system_of_the_catalogue_is_refused(system: str) -> None:
    made = build(config(system=system, hidden=None)).system
    x = torch.rand(8, 1, 4, 4)
    x = x.unsqueeze(1) if isinstance(made, Spiking) else x
    NodePerturbation(made, cross_entropy, "anp", sigma=0.1)(x, torch.arange(8) % 3)


class Idle(nn.Module):
    """Draws random numbers that change nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * torch.randint(0, 9, x.shape) + 0 * torch.bernoulli(torch.full_like(x, 0.5))


def idle_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs + 0 * torch.rand_like(outputs), targets)


@pytest.mark.parametrize(
    ("unit", "loss"), [(nn.ReLU, cross_entropy), (Idle, cross_entropy), (nn.ReLU, idle_loss)]
)
def test_it_costs_six_passes_once(unit: type[nn.Module], loss: Loss) -> None:
    rows = []
    system = net(unit())
    system[0].register_forward_hook(lambda m, i, o: rows.append(len(o)))
    estimator = NodePerturbation(system, loss, "anp")
    estimator(X, Y)
    estimator(X, Y)
    assert sum(rows[:5]) == 6 * len(X)
    # one row per sample before the passes split; between the steps, the look for left-over state
    assert rows[5:] == [len(X), 2 * len(X), len(X)]


class Rare(nn.Module):
    """Changes an activity where a random number is beyond a threshold."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        z = torch.rand_like(x)
        return x + 0.1 * ((z < self.low) | (z > self.high))


@pytest.mark.parametrize("unit", [Rare(1e-7, 2), Rare(-1, 0.998)])
@pytest.mark.parametrize("frozen", [False, True])
def test_random_numbers_that_rarely_matter_are_found(unit: nn.Module, frozen: bool) -> None:
    system = net(nn.ReLU())
    if frozen:  # nothing to move: the pass with the highest numbers is one of its own
        system[2].requires_grad_(False)
        system[0].weight.requires_grad_(False)
    with pytest.raises(SystemRefused, match="the loss: draws random numbers"):
        NodePerturbation(system, lambda o, y: unit(cross_entropy(o, y)), "anp")(X, Y)


def test_a_box_makes_no_trial_for_it() -> None:
    system = BlackBox(NumpyChip((4, 5, 3)))
    NodePerturbation(system, cross_entropy, "anp", sigma=None)(X, Y)
    assert system.trials == 1


def test_what_is_changed_is_verified_again() -> None:
    system = net(nn.Sequential(nn.ReLU()))
    estimator = NodePerturbation(system, cross_entropy, "anp")
    estimator(X, Y)
    system[1].append(Mixed())
    with pytest.raises(SystemRefused, match=r"'1\.1' \(Mixed\): mixes the rows"):
        estimator(X, Y)
    NodePerturbation(system, cross_entropy, "anp", verify=False)(X, Y)


@pytest.mark.parametrize("seed", [124, 389, 511, 704, 1183])
def test_mixed_rows_are_found_behind_silent_units(seed: int) -> None:
    """Most units are off in these batches, and small noise switched none of them on."""
    torch.manual_seed(seed)
    inputs = torch.rand(6, 4)
    system = net(nn.ReLU(), Mixed())
    with pytest.raises(SystemRefused, match="mixes the rows"):
        NodePerturbation(system, cross_entropy, "anp")(inputs, Y)


def test_one_row_shows_nothing_of_others() -> None:
    groups = Groups()
    estimator = NodePerturbation(net(groups), cross_entropy, "anp")
    estimator(X[:1], Y[:1])
    groups.size = len(X)
    with pytest.raises(SystemRefused, match="mixes the rows"):
        estimator(X, Y)


@pytest.mark.parametrize("at", range(1, 6))
def test_everything_is_put_back_after_an_error(at: int) -> None:
    class Fails(nn.Module):
        calls = 0

        def forward(self, x):
            Fails.calls += 1
            if Fails.calls == at:
                raise OSError("unplugged")
            self.last = x
            return x

    system = net(Fails())
    before = {name: value.clone() for name, value in system.state_dict().items()}
    with pytest.raises(OSError, match="unplugged"):
        NodePerturbation(system, cross_entropy, "anp")(X, Y)
    assert all(torch.equal(before[n], v) for n, v in system.state_dict().items())
    assert not hasattr(system[1], "last")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in system.modules())


def test_chaos_is_no_error() -> None:
    """Rounding errors grow over 100 steps until they are as large as any difference."""

    class Chaotic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.again, self.out = nn.Linear(30, 30), nn.Linear(30, 3)
            nn.init.normal_(self.again.weight, std=0.5)

        def forward(self, x):
            h = torch.cat([x] * 8, 1)[:, :30]
            for _ in range(100):
                h = self.again(h).tanh()
            return self.out(h)

    torch.manual_seed(0)
    NodePerturbation(Chaotic(), cross_entropy, "anp")(X, Y)


def test_what_is_not_finite_says_nothing() -> None:
    x = X.clone()
    x[0, 0] = float("nan")
    with pytest.raises(InputError, match="^inputs of row 0 contain NaN"):  # and no refused system
        NodePerturbation(net(nn.ReLU()), cross_entropy, "anp")(x, Y)


def test_spikes_carried_over_a_trial_are_reset() -> None:
    system = Spiking(net(Leaky(0.9)), steps=3)
    NodePerturbation(system, cross_entropy, "np", sigma=0.1)(X.unsqueeze(1), Y)
    assert all(v is None for m in system.modules() for k, v in vars(m).items() if k == "state")


def test_a_subclass_is_a_node_once_it_is_registered() -> None:
    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(2 * x)

    system = net(Scaled(5, 5))
    with pytest.raises(SystemRefused, match=r"is a Linear with its own forward.*outer\.register"):
        NodePerturbation(system, cross_entropy, "anp")
    outer.register(Scaled, outer.dispatch(nn.Linear))
    with pytest.raises(SystemRefused, match=r"'1' \(Scaled\): its output does not follow"):
        NodePerturbation(system, cross_entropy, "anp")(X, Y)
    outer.register(Scaled, lambda layer, x, c: outer.dispatch(nn.Linear)(layer, 2 * x, c))
    NodePerturbation(system, cross_entropy, "anp")(X, Y)
