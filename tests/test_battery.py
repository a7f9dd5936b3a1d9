"""The battery that every rule of the registry passes, as its traits say.

A new rule joins by its entry in `RULES`; no list here has to be edited. A raw rule, which does not
start from the error at the output, also needs plain loops of its own: `NAME_rule` in `reference`.
"""

import copy
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from cases import SYSTEM_CASES, Replay, as_lists, flat, gradients, regression_batch
from synchronisation import HostReads, Synchronisations
from tiny import config, final, interrupted, run, same, tiny_task
from torch import Tensor, nn

from noisynets import (
    RULES,
    SPSA,
    Backpropagation,
    Injection,
    MeasuredError,
    NodePerturbation,
    OverTrial,
    Record,
    RollOutFeedback,
    RollOutPerturbation,
    Rule,
    WeightPerturbation,
    decorrelate,
    negative_return,
    squared_error,
)
from noisynets.core.decorrelation import decorrelations
from noisynets.estimators.methods import METHODS
from noisynets.rules.credit.feedback import Feedback
from noisynets.run.session import Session, build
from noisynets.run.settings import seeds
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.spiking import Leaky, Spiking
from noisynets.tasks.environments import Episodes

RAW = [name for name, entry in RULES.items() if not entry.sends_error]
CREDIT_IS_LINEAR = [name for name, entry in RULES.items() if entry.uses_dloss]
each_rule = pytest.mark.parametrize("rule", RULES)
each_method = pytest.mark.parametrize("rule", [n for n, m in METHODS.items() if not m.needs_model])

ALWAYS = 2
"""Steps in which feedback learns always, shortened here."""


def network(own: bool = False) -> nn.Sequential:
    """Two hidden layers; each node with noise of its own, if asked for."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)]
    if own:
        layers = [Noisy(layer, AdditiveGaussian(0.1, seed=i)) for i, layer in enumerate(layers)]
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.Tanh(), layers[2])


def batch(n: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 3, generator=generator)


def estimator(
    rule: str, own: bool = False, seed: int = 0, noise_seed: int = 0, resamples: int = 1
) -> NodePerturbation:
    """Of a fresh network, in its own noise or that which is injected."""
    made = RULES[rule].make(seed)
    if isinstance(made, Feedback):
        made.schedule.always = min(made.schedule.always, ALWAYS)
    injection = None if own else Injection(0.1, seed=noise_seed)
    return NodePerturbation(network(own), squared_error, made, sigma=injection, resamples=resamples)


def steps(made: NodePerturbation, n: int) -> Tensor:
    """What an estimator accumulates in some steps, of those parameters that it trains."""
    made.system.zero_grad()
    for _ in range(n):
        made(*batch())
    return flat(gradients(made.system))


def own_noise(rule: str) -> list[bool]:
    return [False] if RULES[rule].injects else [False, True]


# --- random numbers ----------------------------------------------------------------------------


@each_rule
def test_the_seed_of_injected_noise_decides_every_bit(rule: str) -> None:
    first, again, other = (steps(estimator(rule, noise_seed=s), 3) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != RULES[rule].traits.uses_noise


@each_rule
def test_the_seed_of_a_rule_decides_its_random_maps(rule: str) -> None:
    first, again, other = (steps(estimator(rule, seed=s), 3) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != RULES[rule].traits.random_feedback


def trained(rule: str, seed: int, weights: list[Tensor] | None = None) -> list[Tensor]:
    """Parameters after two steps of a session; from given weights, or those of the seed."""
    session = build(config(rule=rule, system="mlp", seed=seed))
    x, y = tiny_task("train", None).first(20).batch(slice(None), torch.float32)
    parameters = list(session.system.parameters())
    with torch.no_grad():
        for p, w in zip(parameters, weights or parameters, strict=True):
            p.copy_(w.clone())
    for _ in range(2):
        session.step_(x, y, 0.0)
    return [p.detach().clone() for p in parameters]


@each_method
def test_the_seed_of_a_run_decides_every_bit_of_its_training(rule: str) -> None:
    start = list(build(config(rule=rule, system="mlp", seed=0)).system.parameters())
    weights = [p.detach().clone() for p in start]
    first, again, other = (trained(rule, seed, weights) for seed in (1, 1, 2))
    method = METHODS[rule]
    draws = method.sigma is not None and method.uses_noise
    assert same(first, again)
    assert same(first, other) != draws


def test_every_seed_of_a_run_is_one_of_its_own() -> None:
    first, again, other = (seeds(config(seed=seed)) for seed in (1, 1, 2))
    assert first == again and len(set(first.values())) == len(first)
    assert all(first[name] != other[name] for name in first)


def test_the_seed_decides_the_order_of_the_examples(tmp_path, monkeypatch) -> None:
    step_, seen = Session.step_, []

    def watch(self, x, y, done):
        seen[-1].append(x.clone())
        return step_(self, x, y, done)

    monkeypatch.setattr(Session, "step_", watch)
    for i, seed in enumerate((1, 1, 2)):
        seen.append([])
        run(tmp_path / str(i), rule="bp", seed=seed, epochs=2)
    first, again, other = seen
    assert same(first, again)
    assert not torch.equal(first[0], other[0])
    half = len(first) // 2
    assert not torch.equal(torch.cat(first[:half]), torch.cat(first[half:])), "as every epoch is"


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "lif", "steps": 4, "encoder": "rate", "rule": "bp"},
        {"system": "mlp", "augment": "crop-flip", "rule": "bp"},
        {"system": "noisy-mlp", "rule": "bp"},
        {"system": "bernoulli-mlp", "rule": "bp"},
        {"system": "noisy-lif", "steps": 4, "rule": "bp"},
    ],
    ids=lambda s: "-".join(map(str, s.values())),
)
def test_the_seed_decides_encoding_augmentation_and_the_systems_noise(settings: dict) -> None:
    """Of one estimate; the weights are those of the first run."""
    x, y = tiny_task("train", None).first(20).batch(slice(None), torch.float32)
    x = x.abs()  # rates are not negative
    sessions = [build(config(seed=seed, **settings)) for seed in (1, 1, 2)]
    weights = [p.detach().clone() for p in sessions[0].system.parameters()]
    losses = []
    for session in sessions:
        with torch.no_grad():
            for p, w in zip(session.system.parameters(), weights, strict=True):
                p.copy_(w)
        losses.append([session.step_(x, y, 0.0).loss for _ in range(2)])
    first, again, other = losses
    assert same(first, again)
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], first[1])


# --- passes ------------------------------------------------------------------------------------


class _Plain(nn.Module):
    """Hides a chain, so that the probe cannot tell where the passes split."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


@pytest.mark.parametrize("system", SYSTEM_CASES)
@pytest.mark.parametrize("rule", CREDIT_IS_LINEAR)
def test_stacked_resamples_are_the_mean_of_sequential_passes(rule: str, system: str) -> None:
    """Each noisy pass alone, in a system whose passes are separate from the start."""
    make, shape, outputs = SYSTEM_CASES[system]
    generator = torch.Generator().manual_seed(0)
    net = make(generator)
    x, y = regression_batch(generator, shape, outputs)
    K, noise = 3, Replay()

    def estimated(system: nn.Module, replay: Replay, resamples: int) -> Tensor:
        NodePerturbation(
            system, squared_error, RULES[rule].make(0), noise=replay, resamples=resamples
        )(x, y)
        return flat(gradients(system))

    stacked = estimated(net, noise, K)
    singles = []
    for k in range(K):
        draws = [z[k : k + 1] for z in noise.kept]
        singles.append(estimated(_Plain(net), Replay(draws), 1))
    torch.testing.assert_close(stacked, torch.stack(singles).mean(0), rtol=1e-9, atol=1e-12)


@each_rule
def test_passes_are_made_where_the_rule_is_due_and_give_the_same_credit(rule: str) -> None:
    """Where it is not due, one pass gives the credit that K noisy passes beside it would."""
    K = 3
    made = estimator(rule, resamples=K)
    nodes = 3 if made.rule.needs(made.system).per_node else 1
    count = len(batch()[0])
    for _ in range(ALWAYS + 8):
        due = made.rule.due
        assert made(*batch()).sample_forwards == (1 + K * nodes if due else 1) * count
    if not isinstance(made.rule, Feedback) or RULES[rule].uses_dloss:
        assert made.rule.due
        return
    if made.rule.due:
        made(*batch())
    assert not made.rule.due
    twin = copy.deepcopy(made)
    alone, paired = made.credit(*batch(), always=False), twin.credit(*batch())
    assert alone.estimate.sample_forwards == count < paired.estimate.sample_forwards
    for one, other in zip(alone.assigned.calls, paired.assigned.calls, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@each_rule
@pytest.mark.filterwarnings("ignore:sigma 0.1 moves the loss")
def test_no_credit_without_a_loss_difference(rule: str) -> None:
    made = estimator(rule)
    made.loss = lambda outputs, targets: 0 * outputs.sum(1)
    assert not steps(made, 3).any()


@each_rule
@pytest.mark.parametrize("decorrelated", [False, True])
def test_no_host_synchronisation_inside_an_estimate(rule: str, decorrelated: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    net = decorrelate(net, demean=True) if decorrelated else net
    made = NodePerturbation(net, squared_error, RULES[rule].make(0), resamples=2)
    x, y = torch.randn(4, 1, 6, 6), torch.randn(4, 3)
    made(x, y)  # the first call checks what it measured, once
    with Synchronisations() as counter, HostReads() as reads:
        made(x, y)
    moves = {"to a device"} if RULES[rule].sends_error else set()  # of what a state restored
    assert counter.found == [] and set(reads.found) <= moves


@each_method
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_no_host_synchronisation_inside_a_training_step(rule: str, optimiser: str) -> None:
    """The whole step of the loop, its optimiser included; in intrinsic noise, too."""
    method = METHODS[rule]
    systems = ["mlp"] if method.injects or method.perturbs != "nodes" else ["mlp", "noisy-mlp"]
    x, y = tiny_task("train", None).first(6).batch(slice(None), torch.float32)
    for system in systems:
        session = build(config(system=system, rule=rule, optimiser=optimiser))
        session.step_(x, y, 0.0)
        with Synchronisations() as counter:
            estimate = session.step_(x, y, 0.5)
            session.meter.add(estimate.loss, estimate.output, y)
        assert counter.found == [], system


def test_synchronisations_are_found() -> None:
    x = torch.ones(3)
    with HostReads() as reads:
        x.cpu()
    assert reads.found == ["cpu"]
    with Synchronisations() as counter:
        float(x.sum())
    assert counter.found == ["_local_scalar_dense"]


# --- states ------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("done", range(1, ALWAYS + 5))
def test_an_estimator_is_restored_with_the_same_bits_at_any_phase(rule: str, done: int) -> None:
    """Into a fresh estimator, and into one that has seen other data; with the same passes."""
    for own in own_noise(rule):
        first, fresh, used = (estimator(rule, own) for _ in range(3))
        steps(first, done)
        x, y = batch()
        for _ in range(3):
            used(2 * x, y)
        saved = {name: value.clone() for name, value in first.state().items()}
        expected = None
        system = copy.deepcopy(first.system.state_dict())
        for made in (first, fresh, used):
            made.restore({name: value.clone() for name, value in saved.items()})
            made.system.load_state_dict(system)
            assert same(made.state(), saved)
            made.system.zero_grad()
            passes = [made(x, y).sample_forwards for _ in range(6)]
            found = (passes, gradients(made.system))
            assert expected is None or same(found, expected)
            expected = found


def saved(made):
    """Through a file of `torch.save`."""
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


each_twin = pytest.mark.parametrize("twin", [copy.deepcopy, saved])
"""`torch.save` pickles."""


@each_rule
@each_twin
def test_an_estimator_is_copied_and_saved_with_the_same_bits(rule: str, twin) -> None:
    """Before the first step, after one, and in the middle of a schedule of pairs."""
    for own in own_noise(rule):
        made = estimator(rule, own)
        for more in (0, 1, ALWAYS + 1):
            if more:
                steps(made, more)
            other = twin(made)
            assert torch.equal(steps(made, 4), steps(other, 4))
            assert same(made.state(), other.state()) and made.notes == other.notes


def acting() -> Episodes:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    return Episodes(net, "CartPole-v1", {"max_episode_steps": 30})


def spiking() -> Spiking:
    torch.manual_seed(0)
    return Spiking(nn.Sequential(nn.Linear(4, 6), Leaky(0.9, threshold=0.1), nn.Linear(6, 3)), 3)


def other_estimators() -> dict:
    """Makers of the other estimators and combinators, each with a batch."""
    x, y = batch()
    episodes = torch.arange(4)[:, None], torch.zeros(4)
    made = {
        "bp": (lambda: Backpropagation(network(), squared_error), (x, y)),
        "wp": (lambda: WeightPerturbation(network(), squared_error, resamples=2), (x, y)),
        "spsa": (lambda: SPSA(network(), squared_error), (x, y)),
        "measured": (
            lambda: NodePerturbation(network(), squared_error, "dfa", error=MeasuredError()),
            (x, y),
        ),
    }
    for name, entry in RULES.items():
        if entry.roll_out is not None:
            made[f"{name}, roll-outs"] = (
                lambda name=name: RollOutPerturbation(acting(), negative_return, name),
                episodes,
            )
        if not entry.sends_error:
            over = lambda e=entry: NodePerturbation(spiking(), squared_error, OverTrial(e.make(0)))  # noqa: E731
            made[f"{name} over trials"] = over, (x[:, None], y)
            continue
        made[f"{name}, feedback of roll-outs"] = (
            lambda name=name: RollOutFeedback(acting(), negative_return, name),
            episodes,
        )
        intime = lambda e=entry: NodePerturbation(spiking(), squared_error, e.make(0))  # noqa: E731
        made[f"{name}, spiking"] = intime, (x[:, None], y)
    return made


@each_twin
@pytest.mark.parametrize("name", other_estimators())
def test_other_estimators_are_copied_and_saved_with_the_same_bits(name: str, twin) -> None:
    make, examples = other_estimators()[name]
    made = make()
    for more in (0, 1, 2):
        for _ in range(more):
            made(*examples)
        other = twin(made)
        for one in (made, other):
            one.system.zero_grad()
            for _ in range(2):
                one(*examples)
        assert same(gradients(made.system), gradients(other.system))
        assert same(made.state(), other.state())


@each_twin
@pytest.mark.parametrize("rule", [n for n, m in METHODS.items() if m.needs_model])
def test_estimators_of_boxes_are_copied_and_saved_with_the_same_bits(rule: str, twin) -> None:
    made = build(config(rule=rule, system="numpy-box", threads=1)).estimator
    examples = tiny_task("train", None).first(20).batch(slice(None), torch.float32)
    made(*examples)
    other = twin(made)
    for one in (made, other):
        one.system.zero_grad()
        one(*examples)
    assert same(gradients(made.system), gradients(other.system))


@each_method
def test_a_run_that_was_interrupted_ends_with_the_same_bits(rule, tmp_path, monkeypatch) -> None:
    settings = {"rule": rule, "epochs": 2}
    whole = run(tmp_path / "whole", **settings)
    folder = interrupted(tmp_path / "broken", monkeypatch, settings, stops=3)
    assert same(final(whole), final(folder))
    assert folder.summary()["test_accuracy"] == whole.summary()["test_accuracy"]


# --- what is read ------------------------------------------------------------------------------


class Unread(Rule):
    """Gives the credit of a rule while the system has other weights."""

    def __init__(self, inner: Rule, system: nn.Module) -> None:
        self.inner, self.parameters = inner, list(system.parameters())

    @property
    def due(self) -> bool:
        return self.inner.due

    def needs(self, system: nn.Module):
        return self.inner.needs(system)

    def __call__(self, record: Record) -> list:
        kept = [p.detach().clone() for p in self.parameters]
        for p in self.parameters:
            p.normal_(generator=torch.Generator().manual_seed(p.numel() + int(1e6 * p[0].sum())))
        try:
            return list(self.inner(record))
        finally:
            for p, value in zip(self.parameters, kept, strict=True):
                p.copy_(value)


@each_rule
def test_weights_are_read_only_by_rules_that_say_so(rule: str) -> None:
    """While a rule gives credit, the weights are others: not a bit may differ."""
    found = []
    for hidden in (False, True):
        made = estimator(rule)
        optimiser = torch.optim.SGD(made.system.parameters(), lr=0.1)
        if hidden:
            made.rule = Unread(made.rule, made.system)
        for _ in range(5):
            made(*batch())
            optimiser.step()
        found.append(flat(gradients(made.system)))
    assert torch.equal(*found) != RULES[rule].traits.reads_weight_changes


@each_rule
def test_no_derivative_of_the_system_is_used(rule: str) -> None:
    """Units raise on a backward pass; all trained layers get credit all the same."""

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a.tanh()

        @staticmethod
        def backward(ctx, grad):
            raise AssertionError("a derivative of the system was used")

    class Unit(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return Forward.apply(a)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), Unit(), nn.Flatten(), nn.Linear(48, 8), Unit(), nn.Linear(8, 3)
    )
    made = NodePerturbation(net, squared_error, RULES[rule].make(0), sigma=0.1)
    for _ in range(3):
        made(torch.randn(20, 1, 6, 6), torch.randn(20, 3))
    assert all(g.abs().sum() > 0 for g in gradients(net).values())


# --- plain loops -------------------------------------------------------------------------------


def loops(rule: str):
    return getattr(reference, f"{rule.replace('-', '_')}_rule", None)


def test_every_raw_rule_has_plain_loops() -> None:
    assert [rule for rule in RAW if loops(rule) is None] == []


@pytest.mark.parametrize("rule", [rule for rule in RULES if loops(rule) is not None])
@pytest.mark.parametrize("decorrelated", [False, True])
@pytest.mark.parametrize("K", [1, 3])
def test_agrees_with_plain_loops(rule: str, decorrelated: bool, K: int) -> None:
    make, shape, outputs = SYSTEM_CASES["mlp"]
    generator = torch.Generator().manual_seed(0)
    net = make(generator)
    x, y = regression_batch(generator, shape, outputs)
    if decorrelated:
        net = decorrelate(net, rate=0.0)
        for _, module in decorrelations(net):
            module.R.add_(0.3 * torch.randn_like(module.R))
    noise, made = Replay(), RULES[rule].make(0)
    NodePerturbation(net, squared_error, made, sigma=0.1, resamples=K, noise=noise)(x, y)
    xi = [(0.1 * z).tolist() for z in noise.kept]
    expected = loops(rule)(as_lists(net), x.tolist(), y.tolist(), xi, 0.1)
    values = list(gradients(net).values())
    for l, (W, b) in enumerate(expected):
        np.testing.assert_allclose(values[2 * l].numpy(), W, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(values[2 * l + 1].numpy(), b, rtol=1e-10, atol=1e-10)


# --- the battery itself ------------------------------------------------------------------------


def test_a_rule_from_outside_the_package_is_put_through_the_battery() -> None:
    """One file with one registry entry: `plugged_in.py` registers the rule 'toy'."""
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])
    options = ["-p", "plugged_in", "-p", "no:cacheprovider", "-k", "toy"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(Path(__file__))],
        capture_output=True,
        text=True,
        cwd=tests.parent,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout
    dots = "".join(re.findall(r"^\.+", done.stdout, re.M))
    assert len(dots) > 25, done.stdout
