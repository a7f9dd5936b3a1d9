"""What keeps an estimator from learning is noted once, at the user's line; nothing sound is."""

import inspect
import warnings

import pytest
import snntorch
import torch
import torch.nn.functional as F
from cases import flat, gradients
from torch import Tensor, nn

from noisynets import (
    SPSA,
    AdditiveGaussian,
    Corrected,
    Injection,
    InTime,
    MeasuredError,
    NodePerturbation,
    Noisy,
    OverTrial,
    RollOutPerturbation,
    SystemRefused,
    WeightPerturbation,
    cross_entropy,
    negative_return,
    physical,
    squared_error,
)
from noisynets.core.dependence import of_components, of_nodes, of_rows
from noisynets.estimators import node_perturbation
from noisynets.estimators.obstacles import EVERY, LOOKS
from noisynets.estimators.replay import left_over, own_noise
from noisynets.rules import RULES
from noisynets.rules.credit.explained import Explained
from noisynets.systems.devices import PRESETS, Telegraph
from noisynets.systems.spiking import Leaky, Spiking
from noisynets.tasks.environments import Episodes

X, Y = torch.randn(120, 8), torch.randint(0, 3, (120,))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 3))


def kinds(estimator, steps: int = 27, x: Tensor = X, y: Tensor = Y) -> list[str]:
    """Kinds of the warnings in some steps; each is a note as well, and points at this file."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        for _ in range(steps):
            estimator(x, y)
    assert [str(w.message) for w in caught] == [str(note) for note in estimator.notes]
    assert all(w.filename == __file__ for w in caught)
    assert not any("\n" in note.message for note in estimator.notes)
    return [note.kind for note in estimator.notes]


def rounded(outputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(outputs.round(), targets)


def wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) != targets).float()


def of_the_batch(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets).expand(len(outputs))


def far_off(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1e6 + cross_entropy(outputs, targets)


# --- losses ------------------------------------------------------------------------------------


def test_a_warning_points_at_the_users_line_and_comes_once() -> None:
    estimator = NodePerturbation(net(), rounded, "mirrored")
    with pytest.warns(UserWarning, match="derivative of the loss is exactly 0") as caught:
        estimator(X, Y)
        line = inspect.currentframe().f_lineno - 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)
    estimator(X, Y)  # a second warning would be an error here
    with pytest.warns(UserWarning, match="derivative of the loss is exactly 0"):
        NodePerturbation(net(), rounded, "mirrored")(X, Y)  # of another estimator


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: NodePerturbation(net(), rounded, "mirrored"), ["flat loss"]),
        (
            lambda: NodePerturbation(net(), rounded, "mirrored", sigma=0.1, error=MeasuredError()),
            [],
        ),
        (lambda: NodePerturbation(net(), wrong, "anp", sigma=1e-4), ["loss does not move"]),
        (lambda: NodePerturbation(net(), wrong, "anp", sigma=0.3), []),
        (lambda: SPSA(net(), wrong), ["loss does not move"]),
        (lambda: WeightPerturbation(net(), wrong), ["loss does not move"]),
        (lambda: SPSA(net(), cross_entropy), []),
        (lambda: WeightPerturbation(net(), cross_entropy), []),
        (lambda: NodePerturbation(net(), of_the_batch, "anp", verify=False), ["equal losses"]),
        (lambda: NodePerturbation(net(), far_off, "anp"), ["loss does not move"]),
        (lambda: NodePerturbation(net(), far_off, "learned"), ["loss does not move"]),
        (lambda: NodePerturbation(net(), far_off, "mirrored"), []),
    ],
)
def test_losses_that_teach_nothing_are_noted(make, found: list[str]) -> None:
    assert kinds(make()) == found


def test_a_dead_output_is_noted() -> None:
    dead = net()
    dead.append(nn.Threshold(1e9, 0.0))
    assert kinds(NodePerturbation(dead, cross_entropy, "anp")) == ["equal outputs"]


def test_returns_that_do_not_move_are_noted() -> None:
    """Mountain cars that are still on the way cost 1 per step, whatever they do."""
    system = Episodes(nn.Linear(2, 3), "MountainCar-v0", {"max_episode_steps": 5})
    estimator = RollOutPerturbation(system, negative_return)
    episodes = torch.arange(140)[:, None]
    assert kinds(estimator, 1, episodes, torch.zeros(140)) == ["loss does not move"]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_noted_of_what_is_sound(rule: str) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        x, y = torch.randn(40, 8), torch.randn(40, 3)
        assert kinds(NodePerturbation(net(), squared_error, rule, seed=seed), 4, x, y) == []


# --- noise -------------------------------------------------------------------------------------


class Shared(nn.Module):
    """Noise of which a share is common: to all nodes (in time, too), to rows, or to two nodes."""

    def __init__(self, by: str, share: float, draws: dict[str, Tensor]) -> None:
        super().__init__()
        self.by, self.share, self.draws = by, share, draws

    def forward(self, a: Tensor) -> Tensor:
        one = (len(a), 1)
        shapes = {"all": one, "drift": one, "rows": (1, a.shape[1]), "nodes": tuple(a.shape)}
        if self.by == "rows" or "common" not in self.draws:
            common = torch.randn(shapes[self.by])
            self.draws["common"] = common.cumsum(0) / 5 if self.by == "drift" else common
        own = torch.randn_like(a)
        return a + 0.1 * (self.share**0.5 * self.draws["common"] + (1 - self.share) ** 0.5 * own)


class Supplied(nn.Module):
    """Two nodes of one width; what they share is drawn anew in every pass."""

    def __init__(self, by: str, share: float) -> None:
        super().__init__()
        self.draws: dict[str, Tensor] = {}
        self.one = Noisy(nn.Linear(8, 12), Shared(by, share, self.draws))
        self.two = Noisy(nn.Linear(12, 12), Shared(by, share, self.draws))

    def forward(self, x: Tensor) -> Tensor:
        self.draws.clear()
        return self.two(torch.tanh(self.one(x)))


@pytest.mark.parametrize("by", ["all", "drift", "rows", "nodes"])
@pytest.mark.parametrize("rule", ["anp", "mirrored"])
def test_shared_noise_is_noted(by: str, rule: str) -> None:
    for share, found in ((0.0, []), (0.8, ["shared noise"])):
        torch.manual_seed(0)
        estimator = NodePerturbation(Supplied(by, share), cross_entropy, rule, sigma=None)
        assert kinds(estimator, 1, X, Y) == found
    said = {"all": "activities of a row", "rows": "rows of a batch", "nodes": "'two' and 'one'"}
    assert said.get(by, "in common") in str(estimator.notes[0])


def test_independent_noise_is_hardly_ever_taken_for_shared() -> None:
    """At most 1 in 10,000 is allowed; here of 3 × 600, with heavy tails and few rows, too."""
    torch.manual_seed(0)
    worst = 0.0
    for trial in range(600):
        rows, n = 2 + trial % 60, 1 + trial % 17
        one, other = torch.randn(rows, n), torch.randn(rows, n + 1)
        if trial % 3 == 0:  # one number of a row is large: nothing is shared all the same
            one = one / torch.rand(rows, n)
        if trial % 3 == 1:  # components of a row depend on each other in all but their mean
            other = other @ torch.randn(n + 1, n + 1)
            worst = max(worst, of_rows([one, other]).z, of_nodes(one, other).z)
            continue
        both = of_rows([one, other]), of_components([one, other]), of_nodes(one, other)
        worst = max(worst, *(found.z for found in both))
    assert worst < 12


@pytest.mark.parametrize("preset", PRESETS)
def test_devices_have_noise_of_their_own(preset: str) -> None:
    make = PRESETS[preset].wrap
    net = nn.Sequential(make(nn.Linear(8, 20), 0, 1), nn.ReLU(), make(nn.Linear(20, 3), 1, 2))
    assert "shared noise" not in kinds(NodePerturbation(net, cross_entropy, "np", sigma=0.1), 1)
    noise = list(own_noise(net, X).values())
    assert of_components(noise).share < 0.1 and of_rows(noise).share < 0.5


def test_noise_of_a_node_does_not_contain_that_from_upstream() -> None:
    """Neither in a node that is called twice, nor where the first one is very noisy."""
    torch.manual_seed(0)
    layers = [Noisy(nn.Linear(8, 8), AdditiveGaussian(sigma)) for sigma in (10.0, 0.1)]
    net = nn.Sequential(layers[0], layers[1], nn.ReLU(), layers[1])
    found = own_noise(net, torch.randn(200, 8))
    assert found["1"].std() == pytest.approx(0.1 * 2**0.5, rel=0.1)
    assert found["0"].std() == pytest.approx(10 * 2**0.5, rel=0.1)


# --- states ------------------------------------------------------------------------------------


class Steps(nn.Module):
    """A user's own loop over time, which resets its neurons or forgets to."""

    def __init__(self, resets: bool) -> None:
        super().__init__()
        self.resets = resets
        self.one, self.two = nn.Linear(8, 12), nn.Linear(12, 3)
        self.lif = snntorch.Leaky(0.9, init_hidden=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.resets:
            self.lif.reset_hidden()
        return torch.stack([self.two(self.lif(self.one(x))) for _ in range(3)]).sum(0)


def test_state_left_over_from_the_batch_before_is_noted() -> None:
    for resets, found in ((True, []), (False, ["left-over state"])):
        net = Steps(resets)
        net(X).sum()  # of an earlier batch, with its graph
        assert kinds(WeightPerturbation(net, cross_entropy, sigma=0.1), 1) == found
    net = Steps(resets=False)
    net(X).sum()
    with pytest.raises(SystemRefused, match="'lif'.*reset states"):
        NodePerturbation(net, cross_entropy, "anp")(X, Y)


class Counting(nn.Module):
    """Counts its calls, and keeps what it saw, which changes no output."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.layer, self.seen = nn.Linear(8, 3), None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = x.clone()
        return self.layer(x) + 0.1 * torch.randn(3)


def test_what_changes_no_output_is_no_left_over_state() -> None:
    assert left_over(Counting(), X) == []
    assert left_over(Spiking(nn.Sequential(nn.Linear(8, 3), Leaky(0.9)), 3), X[:, None]) == []
    assert left_over(nn.Sequential(nn.Linear(8, 3), Telegraph()), X) == []


# --- maps --------------------------------------------------------------------------------------


def test_a_map_that_explains_nothing_is_noted_after_200_steps() -> None:
    """A node whose output does not depend on its input: no map of it can be learnt."""

    class Deaf(nn.Linear):
        pass

    def separate(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output.detach() * 0 + torch.randn_like(output)

    broken = net()
    broken[2].register_forward_hook(separate)
    unverified = NodePerturbation(broken, cross_entropy, "mirrored", verify=False)
    assert kinds(unverified, EVERY) == ["unexplained map"]
    assert kinds(NodePerturbation(net(), cross_entropy, "mirrored"), EVERY) == []
    assert kinds(NodePerturbation(net(), cross_entropy, "fa"), EVERY) == []


def test_learned_credit_that_explains_nothing_is_found() -> None:
    torch.manual_seed(0)
    for signal, found in ((0.0, True), (0.5, False)):
        look = Explained()
        for _ in range(40):
            r = torch.randn(1, 100)
            look.add_(r, 3 * (signal * r + torch.randn(1, 100)))
        assert look.nothing == found


def test_learned_credit_that_teaches_is_not_noted() -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 8)
    estimator = NodePerturbation(net(), squared_error, "learned", sigma=0.05)
    assert kinds(estimator, 2 * EVERY, x, x[:, :3].clone()) == []


# --- what is listed ----------------------------------------------------------------------------


def test_fallbacks_are_listed() -> None:
    mixed = nn.Sequential(nn.Linear(8, 6), physical(nn.Softmax(1)), nn.Linear(6, 3))
    for rule in ("mirrored", Corrected(RULES["mirrored"].make(0))):
        estimator = NodePerturbation(mixed, squared_error, rule)
        assert estimator.fallbacks == ()
        assert kinds(estimator, 2, X, torch.randn(120, 3)) == ["learned credit"]
        assert estimator.fallbacks == ("0",)
    assert OverTrial(estimator.rule).fallbacks == InTime(estimator.rule).fallbacks == ("0",)


@pytest.mark.parametrize("rule", ["anp", "mirrored", "learned"])
@pytest.mark.parametrize("own", [True, False])
def test_looks_change_no_bits(rule: str, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those of injected noise, nor those of noise from any generator."""

    class Global(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return a + 0.1 * torch.randn_like(a)

    found = []
    for looks in (LOOKS, frozenset()):
        monkeypatch.setattr(node_perturbation, "LOOKS", looks)
        torch.manual_seed(0)
        system = nn.Sequential(
            Noisy(nn.Linear(8, 12), AdditiveGaussian(0.1, seed=1)),
            nn.Tanh(),
            Noisy(nn.Linear(12, 3), Global()),
        )
        sigma = None if own else Injection(0.1)
        estimator = NodePerturbation(system, cross_entropy, rule, sigma=sigma)
        for _ in range(max(LOOKS) // 9 + 1):
            estimator(X, Y)
        found.append(torch.cat([flat(gradients(system)), torch.randn(3)]))
    assert torch.equal(*found)
