"""Node perturbation of networks that act, against plain loops and a closed form."""

import math

import pytest
import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.losses import negative_return
from noisynets.core.noise import Stream, gaussian
from noisynets.core.trial import RollOut
from noisynets.core.types import EpisodeLog
from noisynets.estimators.methods import METHODS
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.estimators.settings import PerturbationSettings
from noisynets.rules import RULES, SCALINGS
from noisynets.systems.devices import AdditiveGaussian, Noisy

EACH_FORM = pytest.mark.parametrize(
    "rule", [name for name, entry in RULES.items() if entry.roll_out is not None]
)


class Cart(RollOut):
    """s ← A s + B u with u from the network, reward −|s|² − 0.1 u²; over once |s|² > bound."""

    A = torch.tensor([[1.0, 0.3], [0.0, 0.9]], dtype=torch.float64)
    B = torch.tensor([0.05, 0.4], dtype=torch.float64)

    def __init__(self, network: nn.Module, steps: int = 6, bound: float = math.inf) -> None:
        super().__init__()
        self.network, self.horizon, self.bound = network, steps, bound
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, seeds: Tensor) -> Tensor:
        state = torch.stack([starting(int(seed)) for seed in seeds])
        rewards, lives = [], []
        alive = torch.ones(len(state), dtype=torch.bool)
        for _ in range(self.horizon):
            u = self.network(state)[:, 0]
            state = state @ self.A.T + u[:, None] * self.B
            rewards.append(torch.where(alive, reward(state, u), 0))
            lives.append(alive)
            alive = alive & (state.square().sum(1) <= self.bound)
        self.log = EpisodeLog(torch.stack(rewards, 1), torch.stack(lives, 1))
        return self.log.rewards.sum(1, keepdim=True)


def starting(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, dtype=torch.float64, generator=generator) - 0.3


def reward(state: Tensor, u: Tensor) -> Tensor:
    return -state.square().sum(-1) - 0.1 * u.square()


def network(noise: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(2, 3), nn.Linear(3, 1)]
    dressed = [Noisy(m, AdditiveGaussian(noise, i)) if noise else m for i, m in enumerate(layers)]
    return nn.Sequential(dressed[0], nn.Tanh(), dressed[1]).double()


def gradients(system: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in system.parameters()])


def batch(n: int) -> tuple[Tensor, Tensor]:
    return torch.arange(n)[:, None], torch.zeros(n, dtype=torch.int64)


def estimate(system: nn.Module, n: int, **settings) -> Tensor:
    RollOutPerturbation(system, negative_return, **settings)(*batch(n))
    return gradients(system)


def reference(
    net: nn.Sequential, n: int, resamples: int, sigma: float, bound: float, discount: float
) -> Tensor:
    """NP in plain loops, one episode and one step at a time."""
    first, _, last = net
    draws = Stream(5, "injected noise")
    like = torch.zeros((), dtype=torch.float64)
    xi = [
        [sigma * gaussian((resamples, n, m), like, draws.on(like.device)) for m in (3, 1)]
        for _ in range(6)
    ]
    grads = [torch.zeros_like(p) for p in net.parameters()]

    def episode(b: int, k: int | None) -> tuple[list[float], list]:
        state, found, rewards = starting(b), [], []
        for t in range(6):
            noise = [torch.zeros(3), torch.zeros(1)] if k is None else [z[k, b] for z in xi[t]]
            hidden = torch.tanh(first.weight @ state + first.bias + noise[0])
            u = last.weight @ hidden + last.bias + noise[1]
            found.append((state, hidden, *noise))
            state = Cart.A @ state + u * Cart.B
            rewards.append(float(reward(state, u)))
            if state.square().sum() > bound:
                break
        return rewards, found

    with torch.no_grad():
        for b in range(n):
            base, _ = episode(b, None)
            for k in range(resamples):
                rewards, found = episode(b, k)
                for t, (state, hidden, z1, z2) in enumerate(found):
                    to_come = [
                        sum(discount**i * r for i, r in enumerate(all_[t:]))
                        for all_ in (rewards, base)
                    ]
                    dloss = -(to_come[0] - to_come[1]) / sigma**2 / n / resamples
                    for i, term in enumerate((torch.outer(z1, state), z1, torch.outer(z2, hidden))):
                        grads[i] += dloss * term
                    grads[3] += dloss * z2
    return torch.cat([g.flatten() for g in grads])


@pytest.mark.parametrize(
    ("resamples", "bound", "discount"), [(1, math.inf, 1.0), (3, math.inf, 0.7), (2, 0.3, 1.0)]
)
def test_np_is_what_plain_loops_give(resamples: int, bound: float, discount: float) -> None:
    net = network()
    settings = {"sigma": 0.3, "resamples": resamples, "seed": 5, "discount": discount}
    found = estimate(Cart(net, bound=bound), 7, rule="np", **settings)
    torch.testing.assert_close(found, reference(net, 7, resamples, 0.3, bound, discount))


def expected_gradient(
    net: nn.Sequential,
    starts: Tensor,
    sigma: float,
    draws: int = 40_000,
    hidden_sigma: float | None = None,
) -> Tensor:
    """∂E[loss]/∂θ in noise σ, by autograd through the dynamics, the mean over many draws."""
    below = sigma if hidden_sigma is None else hidden_sigma
    torch.manual_seed(1)
    state = starts.repeat(draws, 1)
    first, unit, last = net
    loss = torch.zeros(len(state), dtype=torch.float64)
    for _ in range(6):
        a = first(state)
        hidden = unit(a + below * torch.randn_like(a))
        u = last(hidden)
        u = (u + sigma * torch.randn_like(u))[:, 0]
        state = state @ Cart.A.T + u[:, None] * Cart.B
        loss = loss - reward(state, u)
    found = torch.autograd.grad(loss.mean(), list(net.parameters()))
    return torch.cat([g.flatten() for g in found])


@pytest.mark.parametrize("rule", ["np", "innovation"])
@pytest.mark.parametrize("own", [False, True], ids=["injected", "intrinsic"])
def test_estimates_are_unbiased_at_any_sigma(rule: str, own: bool) -> None:
    if rule == "np" and own:
        return  # needs to know the noise
    sigma = 0.4
    net = network(sigma if own else 0.0)
    bare = nn.Sequential(*(getattr(m, "layer", m) for m in net))
    exact = expected_gradient(bare, torch.stack([starting(b) for b in range(5)]), sigma)
    settings = {"sigma": None} if own else {"sigma": sigma, "seed": 3}
    settings |= {"resamples": 400, "rule": rule}
    system, means = Cart(net), []
    for i in range(10):
        system.zero_grad()
        if not own:
            settings["seed"] = i
        means.append(estimate(system, 5, **settings))
    found = torch.stack(means)
    error = found.std(0) / len(found) ** 0.5
    # 4.5 standard errors, and 2 % for a fit of a finite batch
    assert ((found.mean(0) - exact).abs() < 4.5 * error + 0.02 * exact.abs().max()).all()


def test_credit_goes_with_the_inputs_of_its_own_pass(monkeypatch) -> None:
    """From rest the reference pass sees nothing but zeros; what teaches is what the noise did."""
    still = torch.zeros(5, 2, dtype=torch.float64)
    monkeypatch.setitem(globals(), "starting", lambda seed: still[0])
    net = nn.Sequential(nn.Linear(2, 1), nn.Identity(), nn.Linear(1, 1)).double()
    nn.init.zeros_(net[0].bias), nn.init.zeros_(net[2].bias)
    seen = []
    net[0].register_forward_pre_hook(lambda module, args: seen.append(args[0][:5]))
    found = estimate(Cart(net), 5, rule="np", sigma=0.4, resamples=8000)[:2]
    assert not torch.stack(seen).any()
    exact = expected_gradient(net, still, 0.4)[:2]
    assert torch.cosine_similarity(found, exact, dim=0) > 0.97


@EACH_FORM
def test_nothing_happens_where_the_losses_do_not_differ(rule: str) -> None:
    found = RollOutPerturbation(
        system := Cart(network()), lambda y, target: y[:, 0] * 0, rule=rule, sigma=0.3
    )
    found(*batch(4))
    assert not gradients(system).any()


@EACH_FORM
@pytest.mark.parametrize("scaling", SCALINGS)
def test_stacked_resamples_are_finite_and_reproducible(rule: str, scaling: str) -> None:
    if scaling != "count" and "scaling" not in RULES[rule].roll_out.options:
        return
    found = []
    for _ in range(2):
        system = Cart(network(), bound=0.3)
        found.append(
            estimate(system, 6, rule=rule, sigma=0.3, resamples=2, scaling=scaling, seed=1)
        )
        assert system.log is None, "nothing is left of an episode"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in system.modules())
    assert found[0].isfinite().all() and torch.equal(*found)


@EACH_FORM
def test_n_counts_the_steps_of_an_episode(rule: str) -> None:
    """All episodes are over after a step: a later end of the trial changes nothing."""
    found = [
        estimate(Cart(network(), steps, bound=0.0), 6, rule=rule, sigma=0.3, seed=1)
        for steps in (1, 4)
    ]
    assert found[0].any()
    torch.testing.assert_close(*found)


def test_what_entered_is_measured_without_weights_and_noise() -> None:
    """The fit leaves ξ: np and innovation agree, up to the share of the fit."""
    found = [
        estimate(Cart(network()), 200, rule=rule, sigma=0.3, resamples=4, scaling=scaling, seed=2)
        for rule, scaling in (("np", "count"), ("innovation", "variance"))
    ]
    assert torch.cosine_similarity(*found, dim=0) > 0.99
    torch.testing.assert_close(*found, rtol=0.1, atol=0.1 * float(found[0].abs().max()))


def test_a_network_that_is_called_twice_in_a_step() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.last = nn.Linear(2, 2).double(), nn.Linear(2, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.layer(self.layer(x)))

    with pytest.raises(SystemRefused, match=r"6 or 12 times in 6 steps"):
        estimate(Cart(Twice()), 3, rule="np", sigma=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "mirrored"}, "unknown rule for a network that acts 'mirrored'"),
        ({"rule": "np", "sigma": None}, "nothing is injected in intrinsic mode"),
        ({"rule": "anp", "sigma": None, "scaling": "variance"}, "nothing is injected"),
        ({"resamples": 0}, "resamples 0 must be at least 1"),
        ({"scaling": "cuont"}, "did you mean 'count'"),
        ({"sigma": -1.0}, "must be positive"),
    ],
)
def test_bad_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RollOutPerturbation(Cart(network()), negative_return, **settings)


def test_a_quiet_system_is_refused_in_intrinsic_mode() -> None:
    with pytest.raises(SystemRefused, match="needs noise of its own"):
        estimate(Cart(network()), 3, rule="anp", sigma=None)


# --- feedback ----------------------------------------------------------------------------------


def test_the_last_layer_learns_what_plain_loops_give() -> None:
    """Σ_t (G_pt − G_0t) ε_pt/σ̂² ⊗ h_pt, with noise at the output alone, and σ̂ that of the draws."""
    net, sigma, n, resamples = network(), 0.3, 7, 2
    system = Cart(net, bound=0.3)
    RollOutFeedback(
        system, negative_return, "frozen", sigma=sigma, resamples=resamples, seed=5, discount=0.7
    )(*batch(n))
    draws, like = Stream(5, "noise of actions"), torch.zeros((), dtype=torch.float64)
    xi = [sigma * gaussian((resamples * n, 1), like, draws.on(like.device)) for _ in range(6)]
    first, _, last = net
    terms, squares = [], []

    def episode(b: int, k: int | None) -> tuple[list[float], list]:
        state, rewards, found = starting(b), [], []
        for t in range(6):
            hidden = torch.tanh(first(state))
            noise = torch.zeros(1).double() if k is None else xi[t][k * n + b]
            u = last(hidden) + noise
            found.append((hidden, noise))
            state = Cart.A @ state + u * Cart.B
            rewards.append(float(reward(state, u)))
            if state.square().sum() > 0.3:
                break
        return rewards, found

    def to_come(rewards: list[float], t: int) -> float:
        return sum(0.7**i * r for i, r in enumerate(rewards[t:]))

    with torch.no_grad():
        for b in range(n):
            base, _ = episode(b, None)
            for k in range(resamples):
                rewards, found = episode(b, k)
                for t, (hidden, noise) in enumerate(found):
                    dloss = to_come(base, t) - to_come(rewards, t)
                    terms.append(dloss * noise * torch.cat([hidden, torch.ones(1).double()]))
                    squares.append(float(noise.square()))
    exact = torch.stack(terms).sum(0) / (sum(squares) / len(squares)) / (n * resamples)
    torch.testing.assert_close(torch.cat([last.weight.grad[0], last.bias.grad]), exact)
    assert first.weight.grad is None


@pytest.mark.parametrize("rule", ["dfa", "fa"])
def test_random_feedback_of_what_acts_comes_from_its_seed(rule: str) -> None:
    """In the system's own noise nothing is injected, so that the seed decides the maps alone."""
    found = []
    for seed in (3, 3, 4):
        system = Cart(network(0.3))
        RollOutFeedback(system, negative_return, rule, sigma=None, seed=seed)(*batch(5))
        found.append(gradients(system))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize(("rule", "noise"), [("np", 0.0), ("fa", 0.3)])
def test_methods_hand_their_seed_to_what_acts(rule: str, noise: float) -> None:
    found = []
    for seed in (3, 3, 4):
        system = Cart(network(noise))
        settings = PerturbationSettings(sigma=None if noise else 0.3, injection_seed=seed)
        METHODS[rule].make(system, negative_return, settings)(*batch(5))
        found.append(gradients(system))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("own", [False, True], ids=["injected", "intrinsic"])
def test_mirrors_send_the_credit_of_actions_down(own: bool) -> None:
    """The gradient by autograd through the dynamics, for every layer.

    Over five seeds of the noise the cosines were between 0.976 and 1.
    """
    sigma = 0.2
    net = network(sigma if own else 0.0)
    bare = nn.Sequential(*(getattr(m, "layer", m) for m in net))
    starts = torch.stack([starting(b) for b in range(5)])
    exact = expected_gradient(bare, starts, sigma, hidden_sigma=None if own else 0.0)
    system = Cart(net)
    estimator = RollOutFeedback(
        system, negative_return, "mirrored", sigma=None if own else sigma, resamples=400
    )
    for _ in range(10):
        estimator(*batch(5))  # the mirrors learn
    system.zero_grad()
    for _ in range(30):
        estimator(*batch(5))
    for found, layer in zip(gradients(system).split([9, 4]), exact.split([9, 4]), strict=True):
        assert torch.cosine_similarity(found, layer, dim=0) > 0.95
        assert 0.75 < found.norm() / (30 * layer.norm()) < 1.2


@pytest.mark.parametrize("own", [False, True], ids=["injected", "intrinsic"])
@pytest.mark.parametrize("rule", [name for name, entry in RULES.items() if entry.sends_error])
def test_every_feedback_teaches_what_acts(rule: str, own: bool) -> None:
    """Reproducibly, from a state that was saved, and with nothing left on the system."""
    found = []
    for _ in range(2):
        system = Cart(network(0.3 if own else 0.0), bound=0.3)
        settings = {"sigma": None if own else 0.3, "resamples": 2, "seed": 1}
        first, second = (
            RollOutFeedback(system, negative_return, rule, **settings) for _ in range(2)
        )
        first(*batch(6))
        second.restore(first.state())
        system.zero_grad()
        second(*batch(6))
        found.append(gradients(system.network[2] if rule == "frozen" else system))
        assert system.log is None
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in system.modules())
    assert found[0].isfinite().all() and found[0].any() and torch.equal(*found)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "anp"}, "unknown feedback for a network that acts 'anp'"),
        ({"resamples": 0}, "resamples 0 must be at least 1"),
        ({"discount": 1.5}, "discount 1.5 must be within 0..1"),
        ({"sigma": -1.0}, "must be positive"),
    ],
)
def test_bad_settings_of_feedback_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        RollOutFeedback(Cart(network()), negative_return, **settings)


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, True)


@pytest.mark.parametrize("kind", [RollOutPerturbation, RollOutFeedback])
@pytest.mark.parametrize(
    ("middle", "words"),
    [
        (nn.Dropout(0.5), "'network.1' (Dropout)"),
        (nn.BatchNorm1d(3, affine=False), "'network.1' (BatchNorm1d)"),
        (Masked(), "'1' (Masked)"),
    ],
)
def test_networks_that_act_share_no_masks(kind: type, middle: nn.Module, words: str) -> None:
    net = nn.Sequential(nn.Linear(2, 3), middle, nn.Linear(3, 1)).double()
    with pytest.raises(SystemRefused) as refusal:
        kind(Cart(net), negative_return)(*batch(4))
    assert words in str(refusal.value) and "cannot share" in str(refusal.value)


def test_raw_rules_refuse_parameters_outside_of_layers_of_what_acts() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.PReLU(), nn.Linear(3, 1)).double()
    with pytest.raises(SystemRefused, match="'network.1.weight': belongs to no layer"):
        RollOutPerturbation(Cart(net), negative_return)
    RollOutFeedback(Cart(net), negative_return)(*batch(4))
    assert net[1].weight.grad is not None
