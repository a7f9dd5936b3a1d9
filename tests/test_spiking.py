"""Training spiking networks: rules against plain loops, autograd and measurements."""

import math
from dataclasses import fields

import numpy as np
import pytest
import snntorch
import torch
import torch.nn.functional as F
from cases import Replay, TrueMap, cosine, gradients
from spikes import lif, over, task
from torch import Tensor, nn
from torch.nn.utils import parametrize

from noisynets import (
    RULES,
    Effect,
    Injection,
    InputError,
    InTime,
    Needs,
    NodePerturbation,
    OverTrial,
    Probe,
    Rule,
    Weights,
    cross_entropy,
    find_nodes,
    squared_error,
    survey,
)
from noisynets.bench.steps import memory, spiking
from noisynets.core.outer import is_norm
from noisynets.core.trial import Population
from noisynets.core.types import Node
from noisynets.rules.credit.feedback import LayerwiseFeedback
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.norm_mirror import NormMirror
from noisynets.run.settings import Config, resolve
from noisynets.systems.devices import AdditiveGaussian, Noisy, TrialGaussian
from noisynets.systems.spiking import (
    EscapeRate,
    FirstSpike,
    Leaky,
    MeanMembrane,
    MeanOutput,
    Recurrent,
    SpikeCount,
    Spiking,
    adapt,
)

F64 = torch.float64


def simulate(net: Spiking, x: np.ndarray, xi: list[list[np.ndarray]]) -> tuple[list, list, float]:
    """One sample, one pass: inputs and activities of both layers in every step, and the output.

    x: (T, n_in); xi[t][l]: noise at layer l in step t.
    """
    first, last = net.network[0], net.network[2]
    W1, b1 = first.weight.detach().numpy(), first.bias.detach().numpy()
    W2, b2 = last.weight.detach().numpy(), last.bias.detach().numpy()
    u, s, v, total = np.zeros(len(b1)), np.zeros(len(b1)), np.zeros(len(b2)), np.zeros(len(b2))
    inputs, activities = [], []
    for t in range(len(xi)):
        a1 = W1 @ x[t] + b1 + xi[t][0]
        u = 0.9 * u + a1 - s
        s = (u > 1).astype(float)
        a2 = W2 @ s + b2 + xi[t][1]
        v = 0.9 * v + a2
        total += v
        inputs.append((x[t], s))
        activities.append((a1, a2))
    return inputs, activities, total / len(xi)


@pytest.mark.parametrize("rule", ["np", "anp"])
@pytest.mark.parametrize(
    ("credit", "noise_over"), [("steps", "step"), ("trial", "step"), ("trial", "trial")]
)
def test_rules_agree_with_plain_loops(rule: str, credit: str, noise_over: str) -> None:
    T, B, sigma = 5, 3, 0.4
    net = lif(4, 6, 2, steps=T).double()
    x, y = torch.rand(B, T, 4, dtype=F64) * 2, torch.randn(B, 2, dtype=F64)
    replay = Replay()
    injection = Injection(sigma, replay, per_trial=noise_over == "trial")
    estimator = NodePerturbation(net, squared_error, over(rule, credit), sigma=injection)
    estimator(x, y)
    draws = [sigma * z.numpy() for z in replay.kept]  # (K, B, n), call after call
    assert len(draws) == (2 if noise_over == "trial" else 2 * T)
    expected = [np.zeros((6, 4)), np.zeros((2, 6))]
    for b in range(B):
        noise = [[draws[(2 * t + l) % len(draws)][0, b] for l in (0, 1)] for t in range(T)]
        quiet = [[np.zeros_like(z) for z in step] for step in noise]
        inputs, clean, out = simulate(net, x[b].numpy(), quiet)
        _, noisy, moved = simulate(net, x[b].numpy(), noise)
        target = y[b].numpy()
        dL = (((moved - target) ** 2) - ((out - target) ** 2)).sum() / 2
        delta = [[noisy[t][l] - clean[t][l] for t in range(T)] for l in (0, 1)]
        if credit == "steps":
            size = sum(d.size for layer in delta for d in layer)
            norm = sum((d**2).sum() for layer in delta for d in layer)
            for l in (0, 1):
                for t in range(T):
                    way = noise[t][l] / sigma**2 if rule == "np" else delta[l][t] * size / norm
                    expected[l] += np.outer(dL * way, inputs[t][l]) / B
            continue
        mean = [np.mean(layer, 0) for layer in delta]
        size, norm = sum(d.size for d in mean), sum((d**2).sum() for d in mean)
        variance = sigma**2 if noise_over == "trial" else sigma**2 / T
        for l in (0, 1):
            drawn = np.mean([noise[t][l] for t in range(T)], 0)
            way = drawn / variance if rule == "np" else mean[l] * size / norm
            expected[l] += np.outer(dL * way, np.mean([i[l] for i in inputs], 0)) / B
    for l, layer in ((0, net.network[0]), (1, net.network[2])):
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected[l], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("noise_over", ["step", "trial"])
def test_credit_over_trials_is_the_gradient_for_constant_inputs(noise_over: str) -> None:
    """Smooth units, 40,000 draws: the mean of NP's estimate has a cosine of 0.99 with autograd."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net = Spiking(layers, steps=4, readout=MeanMembrane(0.8)).double()
    x, y = torch.randn(1, 1, 3, dtype=F64), torch.randn(1, 2, dtype=F64)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    net.zero_grad()
    injection = Injection(0.01, per_trial=noise_over == "trial")
    estimator = NodePerturbation(net, squared_error, over("np", "trial"), sigma=injection)
    estimator(x.expand(40_000, 1, 3), y.expand(40_000, 2))
    for name, found in gradients(net).items():
        assert cosine(found, true[name]) > 0.98, name
        assert 0.8 < float(found.norm() / true[name].norm()) < 1.25, name


@pytest.mark.parametrize(
    ("norm", "steps"), [(nn.LayerNorm(6), 5), (nn.GroupNorm(2, 6), 16), (nn.LayerNorm(6), 100)]
)
def test_a_normalisation_gets_the_mean_over_the_steps(norm: nn.Module, steps: int) -> None:
    """Inputs vary in time. 16 of 100 steps are kept, whose mean is close to that of all."""
    torch.manual_seed(0)
    nn.init.normal_(norm.weight)
    layers = nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 3))
    net = Spiking(layers, steps=None, readout=MeanOutput()).double()
    x, y = torch.randn(8, steps, 4, dtype=F64), torch.randn(8, 3, dtype=F64)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    net.zero_grad()

    def map_of(node: Node) -> Map:
        return NormMirror(node.layer) if is_norm(node.layer) else TrueMap(node.layer)

    rule = OverTrial(LayerwiseFeedback(map_of))
    NodePerturbation(net, squared_error, rule, sigma=0.1)(x, y)
    found = gradients(net)
    for name in ("network.0.bias", "network.1.weight", "network.1.bias", "network.2.bias"):
        if steps <= 16:
            torch.testing.assert_close(found[name], true[name], rtol=1e-7, atol=1e-9)
        assert cosine(found[name], true[name]) > 0.98, name


@pytest.mark.parametrize("rule", RULES)
def test_memory_of_records_does_not_grow_with_the_trial(rule: str) -> None:
    counts = []
    for steps in (2, 20):
        net = lif(4, 6, 5, 2, steps=steps)
        needs, nodes = over(rule, "trial").needs(net), find_nodes(net)
        probe = Probe(
            survey(net, nodes), batch=3, resamples=1, injection=Injection(0.1), needs=needs
        )
        with torch.no_grad(), probe:
            output = net(probe.stack(torch.rand(3, 1, 4)))
        record = probe.record(output, torch.zeros(probe.passes, 3))
        parts = [*record.calls, *record.populations.values()]
        names = {field.name for part in parts for field in fields(part)}
        tensors = [getattr(part, name, None) for part in parts for name in sorted(names)]
        counts.append(sum(t.numel() for t in tensors if isinstance(t, Tensor)))
        assert [call.node for call in record.calls] == nodes
    assert counts[0] == counts[1]


def test_a_mirrored_step_frees_its_sums_before_it_learns() -> None:
    """At most 5 tensors of the map's size and 9 of the hidden layer's rows exist at a time."""
    width, inputs, batch = 200, 784, 64  # of the layer, of `bench.steps.spiking`, of the batch
    most = 5 * width * inputs + 9 * batch * width + 4 * batch * inputs
    assert memory(spiking("mirrored", width, 5, batch)) * 2**20 < 4 * most


def test_unmodified_snntorch_with_explicit_state_is_trained() -> None:
    """A user's own loop over snnTorch's neurons is a system like any other."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 16), nn.Linear(16, 2)
            self.lif = snntorch.Leaky(beta=0.9, surrogate_disable=True)

        def forward(self, x: Tensor) -> Tensor:
            u = torch.zeros(len(x), 16)
            total = torch.zeros(len(x), 2)
            for _ in range(8):
                s, u = self.lif(self.one(x), u)
                total = total + self.two(s)
            return total / 8

    torch.manual_seed(0)
    net = Own()
    estimator = NodePerturbation(net, cross_entropy, "anp", sigma=0.3, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(300):
        x = torch.rand(100, 4)
        optimizer.zero_grad()
        losses.append(float(estimator(x, (x[:, 0] > x[:, 1]).long()).loss.mean()))
        optimizer.step()
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:20])


def test_populations_are_recorded_as_means_of_currents_and_spikes() -> None:
    net = lif(4, 6, 3, 2, steps=5, noise=0.3)
    seen: dict[str, list] = {}
    for name in ("network.1", "network.3"):
        module = net.get_submodule(name)
        module.register_forward_hook(
            lambda m, i, o, name=name: seen.setdefault(name, []).append((i[0], o))
        )
    needs = Needs(states=True, averages=True)
    probe = Probe(survey(net), batch=3, resamples=2, needs=needs)
    with torch.no_grad(), probe:
        output = net(probe.stack(torch.rand(3, 1, 4)))
    populations = probe.record(output, torch.zeros(2, 3)).populations
    assert list(populations) == ["network.1", "network.3", "readout"]
    for name, steps in seen.items():
        current, spikes = (
            torch.stack([s[k] for s in steps]).mean(0).view(3, 3, -1) for k in (0, 1)
        )
        found = populations[name]
        torch.testing.assert_close(found.current, current[0])
        torch.testing.assert_close(found.shift, current[1:] - current[0])
        torch.testing.assert_close(found.spikes, spikes[0])
        torch.testing.assert_close(found.change, spikes[1:] - spikes[0])
    out = output.view(3, 3, -1)
    torch.testing.assert_close(populations["readout"].change, out[1:] - out[0])


class NumpyNeurons(Population):
    """Neurons computed in NumPy, with hidden state."""

    def forget(self) -> None:
        self.__dict__.pop("_u", None)

    def forward(self, a: Tensor) -> Tensor:
        current = a.detach().numpy()
        u = self.__dict__.get("_u", 0.0) * 0.9 + current
        s = (u > 1).astype(current.dtype)
        self.__dict__["_u"] = u - s
        return torch.from_numpy(s)


def learn(net: nn.Module, rule: str | Rule, steps: int = 250, lr=8e-3) -> float:
    generator = torch.Generator().manual_seed(1)
    own = any(isinstance(m, Noisy) for m in net.modules())
    estimator = NodePerturbation(net, cross_entropy, rule, sigma=None if own else 0.2)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        estimator(*task(100, generator))
        optimizer.step()
    x, y = task(2000, generator)
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())


def test_neurons_outside_pytorch_are_trained_from_their_signals() -> None:
    torch.manual_seed(0)
    net = Spiking(
        nn.Sequential(
            nn.Linear(6, 40), NumpyNeurons(), nn.Linear(40, 40), NumpyNeurons(), nn.Linear(40, 4)
        ),
        steps=8,
    )
    assert learn(net, "mirrored") > 0.85  # chance is 0.25; with a frozen net about 0.6
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "readout",
    [
        lambda: MeanMembrane(0.9),
        lambda: SpikeCount(Leaky(0.9)),
        lambda: SpikeCount(Leaky(0.9, firing=EscapeRate(0.2, seed=1))),
    ],
    ids=["membrane", "count", "count, escape"],
)
@pytest.mark.parametrize("credit", ["trial", "steps"])
def test_mirrored_credit_trains_through_any_readout(readout, credit: str) -> None:
    net = lif(6, 40, 40, 4, steps=8)
    net.readout = readout()
    assert learn(net, over("mirrored", credit)) > 0.85


def test_a_network_that_ends_with_neurons_is_trained() -> None:
    torch.manual_seed(0)
    ours = adapt(
        nn.Sequential(
            nn.Linear(6, 40),
            snntorch.Leaky(beta=0.9, init_hidden=True),
            nn.Linear(40, 4),
            snntorch.Leaky(beta=0.9, init_hidden=True),
        )
    )
    assert learn(Spiking(ours, 16, MeanOutput()), "mirrored", lr=1e-2) > 0.8


def test_the_first_spike_readout_is_trained() -> None:
    net = lif(6, 60, 4, steps=16)
    net.readout = FirstSpike(Leaky(0.9))
    assert learn(net, "mirrored") > 0.7


def test_recurrent_layers_are_nodes_and_learn() -> None:
    torch.manual_seed(0)
    net = Spiking(
        nn.Sequential(nn.Linear(6, 40), Recurrent(Leaky(0.9), nn.Linear(40, 40)), nn.Linear(40, 4)),
        steps=8,
    )
    before = net.network[1].layer.weight.detach().clone()
    assert [node.name for node in find_nodes(net)] == ["network.0", "network.1.layer", "network.2"]
    assert learn(net, "mirrored") > 0.85
    assert not torch.equal(net.network[1].layer.weight, before)


@pytest.mark.parametrize("between", ["average", "max", "residual"])
def test_mirrored_credit_passes_pooling_and_residual_connections(between: str, recwarn) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.lif = nn.Linear(36, 36), Leaky(0.9)

        def forward(self, s: Tensor) -> Tensor:
            return s + self.lif(self.layer(s))

    torch.manual_seed(0)
    if between == "residual":
        net = nn.Sequential(nn.Linear(6, 36), Leaky(0.9), Block(), nn.Linear(36, 4))
    else:
        pool = nn.AvgPool2d(2) if between == "average" else nn.MaxPool2d(2)
        net = nn.Sequential(
            nn.Linear(6, 64), Leaky(0.9), nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1),
            Leaky(0.9), pool, nn.Flatten(), nn.Linear(64, 4),
        )  # fmt: skip
    system = Spiking(net, steps=6)
    assert learn(system, "mirrored") > 0.8
    assert not [w for w in recwarn if "cannot be mirrored" in str(w.message)]


def test_operations_without_a_record_over_trials_fall_back_to_learned_credit() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.lif = nn.Linear(6, 8), nn.Linear(8, 4), Leaky(0.9)

        def forward(self, x: Tensor) -> Tensor:
            s = self.lif(self.one(x)).cumsum(1)
            return self.two(s)

    estimator = NodePerturbation(Spiking(Between(), 4), cross_entropy, "mirrored", sigma=0.2)
    with pytest.warns(UserWarning, match="'network.one': what lies behind cannot be mirrored"):
        estimator(*task(20, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("unit", [nn.Tanh(), nn.ReLU()], ids=["tanh", "relu"])
def test_a_unit_between_a_layer_and_neurons_is_no_obstacle(unit: nn.Module) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 40), unit, Leaky(0.9), nn.Linear(40, 4))
    with pytest.warns(UserWarning, match="'network.0': what lies behind cannot be mirrored"):
        assert learn(Spiking(network, 8), "mirrored") > 0.8


@pytest.mark.parametrize("rule", [name for name, entry in RULES.items() if entry.sends_error])
@pytest.mark.parametrize("credit", ["trial", "steps"])
def test_states_of_feedback_are_restored_with_the_same_bits(rule: str, credit: str) -> None:
    if credit == "steps" and RULES[rule].uses_dloss:
        return  # refused; see test_eligibility

    def fresh() -> tuple[Spiking, NodePerturbation]:
        net = lif(6, 12, 10, 4, steps=5)
        return net, NodePerturbation(net, cross_entropy, over(rule, credit), sigma=0.2)

    batches = [task(20, torch.Generator().manual_seed(i)) for i in range(8)]
    net, estimator = fresh()
    for batch in batches[:5]:
        estimator(*batch)
    other, restored = fresh()
    restored.restore(estimator.state())
    for batch in batches[5:]:
        net.zero_grad()
        other.zero_grad()
        estimator(*batch)
        restored(*batch)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert (one.grad is None) == (two.grad is None)
        assert one.grad is None or torch.equal(one.grad, two.grad)


def test_noise_over_a_trial_is_drawn_once_per_trial() -> None:
    net = Spiking(nn.Sequential(Noisy(nn.Linear(3, 50), TrialGaussian(0.5, seed=1))), steps=6)
    drawn: list[Tensor] = []
    net.network[0].register_forward_hook(lambda m, i, o: drawn.append(o.detach()))
    x = torch.zeros(2, 1, 3)
    net(x)
    net(x)
    assert all(torch.equal(d, drawn[0]) for d in drawn[:6])
    assert not torch.equal(drawn[0], drawn[6]) and not torch.equal(drawn[0][0], drawn[0][1])
    every = torch.cat([d - net.network[0].layer.bias.detach() for d in (drawn[0], drawn[6])])
    assert abs(float(every.std()) - 0.5) < 4 * 0.5 / math.sqrt(2 * every.numel())


def test_impossible_settings_of_time_are_refused() -> None:
    net, held = lif(4, 6, 2), Injection(0.1, per_trial=True)
    for rule in ("anp", "inp", InTime(RULES["mirrored"].make(0))):
        with pytest.raises(InputError, match="shows nothing about single steps"):
            NodePerturbation(net, cross_entropy, rule, sigma=held)
    for rule in ("mirrored", OverTrial(RULES["anp"].make(0))):
        NodePerturbation(net, cross_entropy, rule, sigma=held)
    for settings, words in (
        ({"credit_over": "step"}, "did you mean 'steps'"),
        ({"noise_over": "trail"}, "did you mean 'trial'"),
    ):
        with pytest.raises(InputError, match=words):
            resolve(Config(system="lif", **settings))


@pytest.mark.parametrize("gradient", [False, True])
def test_constant_inputs_are_multiplied_once(gradient: bool) -> None:
    """Outputs, gradients and estimates are those of inputs given step by step."""
    made: list[object] = []

    class Counted(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            made.append(func) if func is F.linear else None
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(6, 20), Leaky(0.9), nn.Linear(20, 3))
    net, x, y = Spiking(layers, 7), torch.rand(5, 1, 2, 3), torch.arange(5) % 3
    found = []
    for inputs in (x, x.repeat(1, 7, 1, 1)):
        net.zero_grad()
        if gradient:
            F.cross_entropy(net(inputs), y).backward()
        else:
            NodePerturbation(net, cross_entropy, "anp", sigma=0.1)(inputs, y)
        with Counted(), torch.set_grad_enabled(gradient):
            output = net(inputs)
        found.append([output.detach(), *(p.grad for p in net.parameters())])
    assert len(made) == (1 + 7) + (7 + 7)
    assert "forward" not in vars(layers[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_a_noisy_first_layer_is_recomputed_in_every_step() -> None:
    """So is a layer with a parametrisation or a replaced forward."""

    class Read(Effect):
        def weights(self, weights: Weights) -> Weights:
            return Weights(weights.mean + torch.randn_like(weights.mean))

    class Doubt(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + torch.randn_like(weight)

    own = nn.Linear(4, 3)
    own.forward = lambda x: F.linear(x, torch.randn(3, 4))
    layers = [
        Noisy(nn.Linear(4, 3), AdditiveGaussian(0.5, 1)),
        Noisy(nn.Linear(4, 3), Read()),
        parametrize.register_parametrization(nn.Linear(4, 3), "weight", Doubt()),
        own,
    ]
    for layer in layers:
        seen = []
        layer.register_forward_hook(lambda module, args, out, seen=seen: seen.append(out.clone()))
        with torch.no_grad():
            Spiking(nn.Sequential(layer, Leaky(0.9)), 3)(torch.ones(2, 1, 4))
        assert len(seen) == 3 and not torch.equal(seen[0], seen[1])
