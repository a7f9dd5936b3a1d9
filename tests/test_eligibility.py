"""Credit in every step: traces, gains in time, and backpropagation through time."""

import pytest
import torch
from cases import TrueMap, cosine, gradients
from spikes import lif, over, task
from torch import Tensor, nn

from noisynets import (
    RULES,
    Backpropagation,
    InputError,
    InTime,
    Needs,
    NodePerturbation,
    Probe,
    Record,
    Rule,
    WeightPerturbation,
    cross_entropy,
    decorrelate,
    squared_error,
    survey,
)
from noisynets.rules.credit.eligibility import DECAYS, Eligibility, trace
from noisynets.rules.credit.feedback import Feedback, LayerwiseFeedback, Sent
from noisynets.rules.credit.gate import Gate
from noisynets.rules.credit.state import unnested
from noisynets.systems.spiking import (
    Leaky,
    MeanOutput,
    Recurrent,
    SpikeCount,
    Spiking,
)

F64 = torch.float64


def test_a_trace_is_a_decaying_sum() -> None:
    x = torch.randn(3, 9, 2, dtype=F64)
    for decay in (0.0, 0.7, 1.0):
        expected, running = [], torch.zeros(3, 2, dtype=F64)
        for t in range(9):
            running = decay * running + x[:, t]
            expected.append(running)
        torch.testing.assert_close(trace(x, decay), torch.stack(expected, 1))


def measured(beta: float, pairs: int = 60) -> Eligibility:
    """Of neurons under a current that fluctuates, from pairs with small differences of it."""
    generator = torch.Generator().manual_seed(2)
    eligibility = Eligibility()
    for _ in range(pairs):
        neuron = Leaky(beta)
        current = 0.35 * (1 - beta) + 0.3 * torch.randn(16, 60, 20, generator=generator)
        currents = [current, current + 0.05 * torch.randn(16, 60, 20, generator=generator)]
        spikes = []
        for c in currents:
            neuron.forget()
            spikes.append(torch.stack([neuron(a) for a in c.unbind(1)], 1))
        eligibility.update_(torch.stack([torch.stack(currents), torch.stack(spikes)]))
    return eligibility


@pytest.mark.parametrize("beta", [0.5, 0.8, 0.95])
def test_the_decay_that_explains_most_is_near_the_membranes(beta: float) -> None:
    """Told from currents and spikes alone, to within one or two of the decays on offer.

    Pairs drift apart after a spike, which makes the membrane seem to forget sooner: never later.
    """
    found = measured(beta).decay
    assert abs(DECAYS.index(found) - min(range(8), key=lambda i: abs(DECAYS[i] - beta))) <= 2
    assert found <= beta + 0.05


def test_the_gain_in_time_rises_towards_threshold() -> None:
    """The gain at three levels of the potential: far below, below and close to threshold."""
    eligibility = measured(0.8)
    steps = torch.zeros(2, 1, 1, 3)
    steps[0, 0, 0] = torch.tensor([-0.5, 0.3, 0.9])  # the potential in the first step
    gain, _ = eligibility(steps, torch.zeros(1, 1, 1))
    low, middle, high = gain[0, 0].tolist()
    assert abs(low) < 0.1 and abs(middle) < 0.2 and high > 0.5


def test_silence_teaches_nothing_about_the_threshold() -> None:
    eligibility = measured(0.8, pairs=10)
    before = eligibility.state()["levels"].clone()
    quiet = torch.zeros(2, 2, 4, 10, 3)
    quiet[0] = -1 + 0.1 * torch.randn(2, 4, 10, 3)
    for _ in range(20):
        eligibility.update_(quiet)
    assert torch.equal(eligibility.state()["levels"], before)


def test_the_potential_is_what_currents_and_spikes_say() -> None:
    """v_t = Σ λ^{t−t'} (a_t' − θ s_{t'−1}), by a loop, with the decay and θ that were learnt."""
    eligibility = measured(0.8, pairs=10)
    generator = torch.Generator().manual_seed(4)
    steps = torch.stack([torch.randn(2, 12, 3, generator=generator), torch.rand(2, 12, 3).round()])
    gain, _ = eligibility(steps, torch.zeros(2, 12, 1))
    state, best = eligibility.state(), eligibility.best
    theta, decay, gate = float(state.pop("levels")[best]), DECAYS[best], Gate()
    gate.restore(unnested(state)[str(best)])
    v, expected = torch.zeros(2, 3), []
    for t in range(12):
        before = steps[1, :, t - 1] if t else torch.zeros(2, 3)
        v = decay * v + steps[0, :, t] - theta * before
        expected.append(v)
    torch.testing.assert_close(gain, gate(torch.stack(expected, 1)))
    assert theta > 0 and gain.unique().numel() > 20


def watched(rule: Feedback) -> list[tuple[Record, Sent]]:
    """Records that a rule was given from now on, and what it sent."""
    seen, assign = [], rule.assign

    def watch(record: Record) -> Sent:
        seen.append((record, assign(record)))
        return seen[-1][1]

    rule.assign = watch
    return seen


def learnt(rule: Rule, population: str) -> Eligibility:
    """A copy of what `InTime` has learnt of a population, from its state."""
    eligibility = Eligibility()
    eligibility.restore(unnested(unnested(rule.state())["time"])[population])
    return eligibility


def test_credit_in_steps_is_spread_as_eligibility_says() -> None:
    """A recurrent net and K = 2: c g(v_t)/T ⊗ traces, for the layer and for the loop."""
    torch.manual_seed(0)
    loop = Recurrent(Leaky(0.9), nn.Linear(20, 20))
    net = Spiking(nn.Sequential(nn.Linear(6, 20), loop, nn.Linear(20, 4)), steps=8)
    inner = RULES["mirrored"].make(0)
    seen, rule = watched(inner), InTime(inner)
    estimator = NodePerturbation(net, cross_entropy, rule, sigma=0.2, resamples=2)
    for i in range(20):
        net.zero_grad()
        estimator(*task(30, torch.Generator().manual_seed(0)))
        if i == 5:
            early = learnt(rule, "network.1.neuron").state()
    record, found = seen[-1]
    neurons = record.populations["network.1.neuron"]
    assert neurons.pairs.shape == (2, 3, 16, 8, 20)
    eligibility = learnt(rule, "network.1.neuron")
    sent = found.populations["network.1.neuron"]
    assert sent.abs().sum() > 0
    for call, layer in ((0, net.network[0]), (1, loop.layer)):
        gain, traces = eligibility(neurons.steps, record.calls[call].steps)
        expected = torch.einsum("bo,bto,bti->oi", sent, gain, traces) / 8
        torch.testing.assert_close(layer.weight.grad, expected)
    late = eligibility.state()
    assert not torch.equal(late["levels"], early["levels"]), "it goes on learning"


@pytest.mark.parametrize("rule", [n for n, e in RULES.items() if e.sends_error and e.uses_dloss])
def test_feedback_without_credit_for_spikes_refuses_steps(rule: str) -> None:
    estimator = NodePerturbation(lif(6, 8, 4), cross_entropy, over(rule, "steps"), sigma=0.2)
    with pytest.raises(InputError, match="sends no credit to the spikes of 'network.1'"):
        estimator(*task(20, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("rule", ["learned", "dfa"])
def test_direct_credit_reaches_the_steps_of_a_recurrent_layer(rule: str) -> None:
    grads = {}
    for credit in ("steps", "trial"):
        torch.manual_seed(0)
        loop = Recurrent(Leaky(0.9), nn.Linear(20, 20))
        net = Spiking(nn.Sequential(nn.Linear(6, 20), loop, nn.Linear(20, 4)), steps=8)
        estimator = NodePerturbation(net, cross_entropy, over(rule, credit), sigma=0.2)
        for _ in range(5):
            estimator(*task(30, torch.Generator().manual_seed(0)))
        grads[credit] = gradients(net)
    for name in ("network.0.weight", "network.1.layer.weight"):
        assert not torch.equal(grads["steps"][name], grads["trial"][name])


def test_populations_stay_themselves_in_sums() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.one, self.two = nn.Linear(6, 12), Leaky(0.9), Leaky(0.5)

        def forward(self, x: Tensor) -> Tensor:
            a = self.layer(x)
            return self.one(a) + self.two(a=a) + a

    torch.manual_seed(0)
    net = Spiking(nn.Sequential(Twice(), nn.Linear(12, 4)), steps=6)
    rule = RULES["mirrored"].make(0)
    seen, estimator = watched(rule), NodePerturbation(net, cross_entropy, rule, sigma=0.2)
    for _ in range(3):
        estimator(*task(20, torch.Generator().manual_seed(0)))
    assert set(seen[-1][1].populations) == {"network.0.one", "network.0.two", "readout"}


def test_a_population_gets_the_credit_of_all_layers_that_read_it() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neurons = nn.Linear(6, 12), Leaky(0.9)
            self.one, self.two = nn.Linear(12, 4), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neurons(self.layer(x))
            return self.one(spikes) + self.two(spikes)

    torch.manual_seed(0)
    both, rule = Both(), LayerwiseFeedback(lambda node: TrueMap(node.product))
    seen = watched(rule)
    estimator = NodePerturbation(Spiking(both, steps=6), cross_entropy, rule, sigma=0.2)
    estimator(*task(20, torch.Generator().manual_seed(0)))
    _, one, two = seen[-1][1].calls
    expected = one @ both.one.weight + two @ both.two.weight
    torch.testing.assert_close(seen[-1][1].populations["network.neurons"], expected)


def timed(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every input fires once; the class is which of two inputs fires first."""
    times = torch.rand(n, 8, generator=generator)
    when = (times * 23).round().long().unsqueeze(1)
    x = torch.zeros(n, 24, 8).scatter_(1, when, 1.0)
    return x, (times[:, 0] > times[:, 1]).long()


def test_eligibility_points_along_backpropagation_through_time() -> None:
    """First layer, 200 pairs of 100 on fixed weights: cosine above 0.5 and above the trial mean's.

    Surrogate gradients are themselves no derivative, so that 1 is not to be expected.
    """
    found = {}
    for credit in ("steps", "trial"):
        net = lif(8, 50, 2, steps=None)
        net.network[0].weight.data *= 3
        estimator = NodePerturbation(net, cross_entropy, over("mirrored", credit), sigma=0.2)
        generator = torch.Generator().manual_seed(3)
        for _ in range(200):
            estimator(*timed(100, generator))
        net.zero_grad()
        x, y = timed(2000, generator)
        estimator(x, y)
        mine = gradients(net)["network.0.weight"]
        net.zero_grad()
        Backpropagation(net, cross_entropy)(x, y)
        found[credit] = cosine(mine, gradients(net)["network.0.weight"])
    assert found["steps"] > 0.5 and found["steps"] > found["trial"] + 0.2, found


def test_spike_times_are_learnt_in_steps_and_not_over_trials() -> None:
    scores = {}
    for credit in ("steps", "trial"):
        net = lif(8, 50, 2, steps=None)
        net.network[0].weight.data *= 3
        estimator = NodePerturbation(net, cross_entropy, over("mirrored", credit), sigma=0.2)
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        generator = torch.Generator().manual_seed(3)
        for _ in range(200):
            optimizer.zero_grad()
            estimator(*timed(100, generator))
            optimizer.step()
        x, y = timed(2000, generator)
        with torch.no_grad():
            scores[credit] = float((net(x).argmax(1) == y).float().mean())
    assert scores["steps"] > 0.9 and scores["steps"] > scores["trial"] + 0.05, scores


@pytest.mark.parametrize(
    ("rule", "scaling"),
    [("np", "count"), ("inp", "count"), ("inp", "variance"), ("anp", "count"), ("anp", "variance")],
)
def test_nodes_called_once_and_often_get_credit_in_proportion(rule: str, scaling: str) -> None:
    """A layer before the trial beside one within, 40,000 draws: the projection on the gradient.

    Neither is reached by the other's noise, so that ANP is unbiased, too.
    """

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 2)
            self.rest = Spiking(nn.Sequential(nn.Linear(3, 2)), steps=16, readout=MeanOutput())

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.rest(x.unsqueeze(1))

    torch.manual_seed(0)
    net = Beside().double()
    x, y = torch.randn(1, 3, dtype=F64), torch.randn(1, 2, dtype=F64)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    net.zero_grad()
    options = {"scaling": scaling} if "scaling" in RULES[rule].options else {}
    estimator = NodePerturbation(net, squared_error, over(rule, "trial", **options), sigma=0.01)
    estimator(x.expand(40_000, 3), y.expand(40_000, 2))
    for name, found in gradients(net).items():
        share = float((found * true[name]).sum() / true[name].square().sum())
        assert 0.9 < share < 1.1, (name, share)


def test_decorrelated_layers_keep_raw_and_x_apart_over_a_trial() -> None:
    net = decorrelate(lif(4, 6, 2, steps=5), rate=0.0)
    for module in net.modules():
        if hasattr(module, "R"):
            module.R.copy_(2 * torch.eye(len(module.R)))
    probe = Probe(survey(net), batch=3, resamples=1, needs=Needs(averages=True))
    with torch.no_grad(), probe:
        net(probe.stack(torch.rand(3, 1, 4)))
    for call in probe.calls:
        torch.testing.assert_close(call.x, 2 * call.raw)


@pytest.mark.parametrize("estimator", ["anp", "mirrored", "bp", "wp"])
def test_neurons_without_a_trial_of_their_own_start_every_batch_from_rest(estimator: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 40), Leaky(0.9), nn.Linear(40, 2))
    make = {
        "bp": lambda: Backpropagation(net, cross_entropy),
        "wp": lambda: WeightPerturbation(net, cross_entropy, sigma=0.01),
    }.get(estimator, lambda: NodePerturbation(net, cross_entropy, estimator, sigma=0.1))()
    x, y = 3 * torch.rand(20, 3), torch.randint(2, (20,))
    first = make(x, y).loss
    for _ in range(2):
        assert torch.equal(make(x, y).loss, first)
    assert net[1].step_state == ()


def test_long_sums_are_kept_in_wide_numbers() -> None:
    net = Spiking(nn.Sequential(nn.Linear(1, 1)), readout=SpikeCount(Leaky(0.9))).bfloat16()
    net.network[0].weight.data.fill_(2.0)
    probe = Probe(survey(net), batch=1, resamples=1, needs=Needs(averages=True))
    with torch.no_grad(), probe:
        output = net(probe.stack(torch.ones(1, 600, 1)))
    assert abs(float(output[0, 0]) - 600) < 3 and float(probe.calls[0].x) == 1
