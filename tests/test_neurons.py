"""Neurons against snnTorch's, step by step, and against closed forms."""

import copy
import gc
import math
import weakref

import pytest
import snntorch
import torch
from torch import nn

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.trial import Stateful
from noisynets.systems.spiking import (
    Alpha,
    EscapeRate,
    Lapicque,
    LateResetLeaky,
    Leaky,
    NoisyThreshold,
    OneToOne,
    Recurrent,
    Spiking,
    Synaptic,
    adapt,
    trial,
)

B, N, STEPS = 6, 5, 60


def per_neuron() -> torch.Tensor:
    return torch.linspace(0.6, 0.95, N, dtype=torch.float64)


THEIRS = {
    "Leaky": (snntorch.Leaky, {"beta": 0.85}),
    "Leaky, beta for each": (snntorch.Leaky, {"beta": per_neuron()}),
    "Lapicque, beta": (snntorch.Lapicque, {"beta": 0.7}),
    "Lapicque, R and C": (snntorch.Lapicque, {"R": 2.0, "C": 3.0, "time_step": 0.5}),
    "Lapicque, beta and C": (snntorch.Lapicque, {"beta": 0.7, "C": 1.5}),
    "Lapicque, beta and R": (snntorch.Lapicque, {"beta": 0.7, "R": 1.5}),
    "Synaptic": (snntorch.Synaptic, {"alpha": 0.6, "beta": 0.8}),
    "Alpha": (snntorch.Alpha, {"alpha": 0.9, "beta": 0.7}),
    "RLeaky": (snntorch.RLeaky, {"beta": 0.85, "linear_features": N}),
    "RLeaky, one to one": (snntorch.RLeaky, {"beta": 0.8, "all_to_all": False, "V": 0.4}),
    "RSynaptic": (snntorch.RSynaptic, {"alpha": 0.5, "beta": 0.8, "linear_features": N}),
}
DELAYLESS = ("Leaky", "Synaptic", "RLeaky")
CASES = [
    pytest.param(kind, reset, delay, id=f"{kind}-{reset}{'' if delay else '-at once'}")
    for kind in THEIRS
    for reset in ("subtract", "zero", "none")
    for delay in ((True, False) if kind.split(",")[0] in DELAYLESS else (True,))
]


def theirs(kind: str, reset: str, delay: bool, **more: object) -> nn.Module:
    make, settings = THEIRS[kind]
    more |= {} if delay else {"reset_delay": False}
    more |= {"spike_grad": (lambda x: (x > 0).to(x.dtype))}  # its own gives float32 for any input
    return make(**settings, reset_mechanism=reset, init_hidden=True, **more).double()


def currents(steps: int = STEPS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, B, N, generator=generator, dtype=torch.float64) * 1.5 + 0.5


@pytest.mark.parametrize(("kind", "reset", "delay"), CASES)
def test_every_neuron_agrees_with_snntorch_step_by_step(kind: str, reset: str, delay: bool) -> None:
    torch.manual_seed(0)
    reference = theirs(kind, reset, delay)
    ours = adapt(reference).double()
    population = ours.neuron if isinstance(ours, Recurrent) else ours
    spikes = 0
    with torch.no_grad(), trial(ours):
        for a in currents():
            expected, found = reference(a), ours(a)
            assert torch.equal(found, expected.double())
            torch.testing.assert_close(population.step_state[-1], reference.mem.double())
            spikes += int(found.sum())
    assert spikes > 50, "a test without spikes shows nothing"


@pytest.mark.parametrize("kind", [k for k in THEIRS if k != "Leaky, beta for each"])
def test_surrogate_gradients_agree_with_snntorch(kind: str) -> None:
    torch.manual_seed(0)
    make, settings = THEIRS[kind]
    reference = make(**settings, init_hidden=True)
    ours = adapt(reference)
    weight = torch.randn(N, N)
    found = []
    for neuron in (reference, ours):
        w = weight.clone().requires_grad_()
        with trial(ours):
            sum(neuron(a @ w).sum() * t for t, a in enumerate(currents(12).float())).backward()
        found.append(w.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("current", [0.05, 0.3, 0.95, 1.5])
def test_leaky_fires_at_the_closed_form_rate(beta: float, current: float) -> None:
    """From rest, reset to zero: u_n = a (1 − β^n)/(1 − β) passes θ after n steps, then again.

    The reset takes place in the step after the spike, which integrates the same current, so that
    spikes come every n steps, n the least with u_n > θ.
    """
    theta, steps = 1.0, 3000
    neuron = Leaky(beta, threshold=theta, reset="zero").double()
    a = torch.full((1, 1), current, dtype=torch.float64)
    with trial(neuron):
        count = sum(float(neuron(a)) for _ in range(steps))
    if current / (1 - beta) <= theta:
        assert count == 0
        return
    left = 1 - theta * (1 - beta) / current
    n = 1 if beta == 0 or left <= 0 else max(1, math.floor(math.log(left) / math.log(beta)) + 1)
    assert count == steps // n


def test_an_escape_rate_neuron_fires_at_its_rate() -> None:
    """Without leak or reset, at a distance x: mean spikes 1 − exp(−ρ); 4 standard errors."""
    n = 40_000
    for x in (-0.3, 0.0, 0.2):
        firing = EscapeRate(width=0.2, rate=0.5, seed=1)
        p = 1 - math.exp(-0.5 * math.exp(x / 0.2))
        share = float(firing(torch.full((n,), x)).mean())
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_immediate_reset_applies_only_to_neurons_that_fired() -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    neuron = Leaky(1.0, firing=Never(), reset_delay=False, readable=True)
    found = []
    for _ in range(4):
        neuron(torch.tensor([[0.6]]))
        found.append(float(neuron.membrane))
    assert found == pytest.approx([0.6, 1.2, 1.8, 2.4])


def test_a_noisy_threshold_fires_with_the_normal_probability() -> None:
    """P(spike) = Φ(x/σ); 4 standard errors of 40,000 draws."""
    n = 40_000
    for x in (-0.2, 0.0, 0.3):
        p = 0.5 * (1 + math.erf(x / 0.25 / math.sqrt(2)))
        share = float(NoisyThreshold(0.25, seed=2)(torch.full((n,), x)).mean())
        assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_membrane_noise_is_an_ornstein_uhlenbeck_process() -> None:
    """u ← β u + N(0, σ²) without spikes has the variance σ²/(1 − β²); 4 standard errors."""
    beta, sigma, n = 0.8, 0.1, 50_000
    neuron = Leaky(beta, threshold=100.0, membrane_noise=sigma, readable=True, seed=3)
    with trial(neuron):
        for _ in range(60):
            neuron(torch.zeros(1, n))
        u = neuron.membrane
        assert u is not None
        expected = sigma**2 / (1 - beta**2)
        assert abs(float(u.var()) - expected) < 4 * expected * math.sqrt(2 / n)


def test_the_membrane_is_available_only_if_readable() -> None:
    neuron = Leaky(0.9)
    neuron(torch.ones(1, 2))
    assert neuron.membrane is None and "membrane" not in neuron.signals
    shown = Leaky(0.9, readable=True)
    shown(torch.ones(1, 2))
    assert torch.equal(shown.membrane, torch.ones(1, 2)) and "membrane" in shown.signals


def lif(seed: int = 0) -> Spiking:
    torch.manual_seed(seed)
    hidden = Recurrent(Leaky(0.9, firing=EscapeRate(0.1, seed=seed)), nn.Linear(8, 8))
    return Spiking(nn.Sequential(nn.Linear(4, 8), hidden, nn.Linear(8, 3)), steps=7)


def test_trials_start_from_rest_and_leave_no_state() -> None:
    net, other = lif(), lif()
    x = torch.rand(5, 1, 4)
    first = net(x)
    assert torch.equal(other(x), first)
    partial = Leaky(0.9)
    partial(torch.ones(1, 1))
    net(x)
    assert partial.step_state != (), "a trial of one network resets no other"
    stateful = [m for m in net.modules() if isinstance(m, Stateful)]
    assert len(stateful) == 3
    for module in stateful:
        assert {name: getattr(module, name) for name in module.fresh} == dict(module.fresh)


def test_a_trial_starts_from_rest_after_calls_outside_of_trials() -> None:
    net = lif()
    x = torch.rand(5, 1, 4)
    first = net(x)
    net.network[1].neuron(torch.ones(5, 8))
    net.network[1].last_spikes = torch.ones(5, 8)
    net.readout(torch.ones(5, 3))
    assert torch.equal(lif()(x), first)
    again = lif()
    again.network[1].neuron(torch.ones(5, 8))  # draws from its own stream, too
    again.network[1].last_spikes = torch.ones(5, 8)
    again.readout(torch.ones(5, 3))
    again.network[1].neuron.firing = net.network[1].neuron.firing = EscapeRate(1e-6, seed=1)
    assert torch.equal(again(x), Spiking.forward(net, x))


def test_another_batch_within_a_trial_is_refused() -> None:
    neuron = Leaky(0.9)
    neuron(torch.ones(2, 3))
    with pytest.raises(InputError, match=r"shape \(4, 3\) after \(2, 3\) within one trial"):
        neuron(torch.ones(4, 3))
    wrong = Leaky(torch.tensor([0.5, 0.9]))
    wrong(torch.ones(3, 1))
    with pytest.raises(InputError, match="do not match its constants"):
        wrong(torch.ones(3, 1))


def test_a_failed_trial_leaves_no_state() -> None:
    net = lif()
    with pytest.raises(RuntimeError):
        net(torch.rand(5, 1, 9))
    hidden = net.network[1]
    assert hidden.last_spikes is None and hidden.neuron.step_state == ()


def test_networks_copy_save_load_and_are_collected() -> None:
    net = lif()
    x = torch.rand(5, 1, 4)
    net(x).sum().backward()  # with a graph, and with gradients
    twin = copy.deepcopy(net)
    assert torch.equal(twin(x), net(x))
    fresh = lif(seed=1)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(x), net(x))
    assert net.to(torch.float64)(x.double()).dtype == torch.float64
    gone = weakref.ref(net)
    del net, twin, fresh
    gc.collect()
    assert gone() is None


def test_adapt_adds_nothing_to_snntorchs_list_of_neurons() -> None:
    reference = nn.Sequential(nn.Linear(4, 8), snntorch.Leaky(beta=0.9, init_hidden=True))
    before = list(snntorch.SpikingNeuron.instances)
    state = {k: v.clone() for k, v in reference.state_dict().items()}
    net = Spiking(adapt(reference), steps=5)
    net(torch.rand(2, 1, 4))
    assert snntorch.SpikingNeuron.instances == before
    assert all(torch.equal(v, reference.state_dict()[k]) for k, v in state.items())
    assert net.network[0] is reference[0]
    assert isinstance(reference[1], snntorch.Leaky), "the given network stays as it is"


class Custom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)
        self.lif = snntorch.Synaptic(alpha=0.5, beta=0.8, init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.lif(self.one(x)))


def test_adapt_replaces_neurons_in_modules_with_their_own_forward() -> None:
    given = Custom()
    calls: list[nn.Module] = []
    given.register_forward_hook(lambda module, *_: calls.append(module))
    ours = adapt(given)
    assert isinstance(ours, Custom) and isinstance(ours.lif, Synaptic)
    assert ours.one is given.one
    assert Spiking(ours, steps=4)(torch.rand(2, 1, 4)).shape == (2, 3)
    assert not calls, "hooks are not copied"
    given(torch.rand(2, 4))
    assert calls == [given]


def test_shared_modules_stay_shared_and_surrogates_are_kept() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            fast = snntorch.surrogate.fast_sigmoid(slope=25)
            self.lif = snntorch.Leaky(beta=0.9, init_hidden=True, spike_grad=fast)
            self.all = nn.ModuleList([nn.Linear(2, 2), self.lif])

    given = Shared().eval()
    ours = adapt(given)
    assert ours.lif is ours.all[1] and not ours.lif.training
    ours.register_buffer("extra", torch.zeros(1))
    assert "extra" not in dict(given.named_buffers())
    found = []
    for neuron in (given.lif, ours.lif):
        a = torch.tensor([[0.7, 1.3]], requires_grad=True)
        neuron(a).sum().backward()
        found.append(a.grad)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: snntorch.Leaky(beta=0.9), "init_hidden=True"),
        (lambda: snntorch.Leaky(beta=0.9, init_hidden=True, output=True), "output=False"),
        (lambda: snntorch.Leaky(beta=0.9, init_hidden=True, learn_beta=True), "learns beta"),
        (lambda: snntorch.SLSTM(4, 4, init_hidden=True), "no counterpart here .is an LSTM"),
        (lambda: snntorch.SConv2dLSTM(1, 1, 3, init_hidden=True), "is an LSTM"),
        (lambda: snntorch.LeakyParallel(4, 4), "takes all steps of a trial in one call"),
        (lambda: snntorch.StateLeaky(beta=0.9, channels=4), "takes all steps"),
        (lambda: snntorch.LinearLeaky(beta=0.9, in_features=4, out_features=4), "takes all steps"),
        (lambda: snntorch.DeltaLeaky(beta=0.9, init_hidden=True), "spikes where its potential"),
        (lambda: snntorch.GradedSpikes(4, 1.0), "'1' .GradedSpikes.: .* use OneToOne"),
    ],
)
def test_neurons_without_a_counterpart_are_refused(make, words: str) -> None:
    with pytest.raises(SystemRefused, match=words):
        adapt(nn.Sequential(nn.Linear(4, 4), make()))


def test_snntorchs_neurons_are_refused_in_spiking() -> None:
    net = nn.Sequential(nn.Linear(2, 2), snntorch.Leaky(beta=0.9, init_hidden=True))
    with pytest.raises(SystemRefused, match=r"'1': snnTorch's neurons .* Spiking\(adapt\(network"):
        Spiking(net)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Leaky(0.9, reset="always"),
        lambda: Leaky(0.9, membrane_noise=-1.0),
        lambda: Leaky(float("nan")),
        lambda: Lapicque(),
        lambda: Lapicque(resistance=1.0),
        lambda: Alpha(0.5, 0.7),
        lambda: Leaky(0.9, threshold=float("nan")),
        lambda: Leaky(0.9, threshold=torch.tensor([1.0, -1.0])),
        lambda: Lapicque(beta=0.0),
        lambda: Lapicque(beta=1.0, capacitance=2.0),
        lambda: Lapicque(resistance=0.1, capacitance=1.0),
        lambda: EscapeRate(0.0),
        lambda: NoisyThreshold(-1.0),
        lambda: Spiking(nn.Linear(2, 2), steps=0),
        lambda: Spiking(nn.Linear(2, 2))(torch.zeros(3, 0, 2)),
        lambda: Spiking(nn.Linear(2, 2), steps=4)(torch.zeros(3, 2, 2)),
    ],
)
def test_bad_settings_are_refused_in_one_line(make) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)


def test_one_to_one_recurrence_is_a_node_with_the_autograd_gradient() -> None:
    from noisynets.core.outer import outer

    for weight in (torch.tensor(0.3), torch.randn(5)):
        layer = OneToOne(weight)
        x, credit = torch.randn(4, 5), torch.randn(4, 5)
        (layer(x) * credit).sum().backward()
        torch.testing.assert_close(outer(layer, x, credit)["weight"], layer.weight.grad)


def test_late_reset_to_zero_also_clears_the_input() -> None:
    a = torch.tensor([[0.7]])
    out = {}
    for kind in (Leaky, LateResetLeaky):
        neuron = kind(0.9, reset="zero", readable=True)
        for _ in range(3):
            neuron(a)
        out[kind] = float(neuron.membrane)
    assert out[Leaky] == pytest.approx(0.7) and out[LateResetLeaky] == 0
