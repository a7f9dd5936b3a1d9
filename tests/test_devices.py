"""Tests that every device effect must pass."""

import copy
import pickle

import pytest
import torch
from cases import EFFECT_CASES, gradients
from safetensors.torch import load, save
from torch import nn

from noisynets import NodePerturbation, Noisy, Probe, decorrelate, find_nodes, squared_error, survey
from noisynets.core.noise import Injection, Source
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.devices import (
    ADC,
    DAC,
    PCM,
    PRESETS,
    AdditiveGaussian,
    During,
    GainOffset,
    Pattern,
    Shot,
    StuckAt,
    Telegraph,
    WeightSpread,
)
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.units import Bernoulli, Poisson, StochasticRounding

EACH = pytest.mark.parametrize("case", EFFECT_CASES, ids=lambda case: case.name)
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (5, 6)),
    "positions": (lambda: nn.Linear(6, 4, bias=False), (5, 3, 6)),
    "conv2d": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (5, 2, 6, 6)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), (5, 2, 7)),
}
EACH_LAYER = pytest.mark.parametrize("layer", LAYERS)


def made(case, layer: str, device: int = 1, cycle: int = 2, dtype=torch.float32):
    """A layer on its device, always with the same weights."""
    torch.manual_seed(0)
    make, shape = LAYERS[layer]
    x = torch.randn(shape, dtype=dtype)
    return case.wrap(make().to(dtype), device, cycle).to(dtype), x


@EACH
@EACH_LAYER
def test_effects_keep_shape_dtype_and_input_on_every_layer_type(case, layer) -> None:
    for dtype in (torch.float32, torch.float64):
        node, x = made(case, layer, dtype=dtype)
        before, state = x.clone(), torch.get_rng_state()
        bare = node.core[1](x)
        out = node(x)
        assert out.shape == bare.shape and out.dtype == dtype and out.isfinite().all()
        assert torch.equal(x, before) and torch.equal(torch.get_rng_state(), state)
        assert not torch.equal(out, bare)


@EACH
def test_one_seed_sets_the_chip_and_another_the_noise_in_time(case) -> None:
    def calls(device: int, cycle: int) -> torch.Tensor:
        node, x = made(case, "linear", device, cycle)
        return torch.stack([node(x) for _ in range(3)])

    first = calls(1, 2)
    assert torch.equal(first, calls(1, 2))
    assert torch.equal(first, calls(9, 2)) is not case.spread
    assert torch.equal(first, calls(1, 9)) is not case.noisy


@EACH
@EACH_LAYER
def test_saved_copied_and_pickled_effects_continue_with_the_same_bits(case, layer) -> None:
    node, x = made(case, layer)
    node(x)
    fresh, _ = made(case, layer)
    fresh.load_state_dict(load(save(node.state_dict())))
    used, _ = made(case, layer)
    used(x), used(x)
    used.load_state_dict(node.state_dict())
    twins = [fresh, used, copy.deepcopy(node), pickle.loads(pickle.dumps(node))]
    expected = [node(x), node(x)]
    for twin in twins:
        assert torch.equal(twin(x), expected[0]) and torch.equal(twin(x), expected[1])


@pytest.mark.parametrize("case", [c for c in EFFECT_CASES if c.of_activity], ids=lambda c: c.name)
@EACH_LAYER
def test_an_effect_after_its_layer_equals_a_wrapped_layer(case, layer) -> None:
    wrapped, x = made(case, layer)
    wrapped = nn.Sequential(wrapped, nn.Tanh())
    following = nn.Sequential(wrapped[0].layer, case.of_activity(1, 2), nn.Tanh())
    found = []
    for net, name in ((wrapped, "0"), (following, "1")):
        assert [node.name for node in find_nodes(net)] == [name]
        estimator = NodePerturbation(net, squared_error, "anp", sigma=0.1, seed=3)
        target = net(x).detach() + 1
        estimator(x, target)
        found.append([g for g in gradients(net).values() if g.abs().sum() > 0])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@EACH
@EACH_LAYER
def test_a_wrapped_layer_is_one_node_and_trains_with_and_without_decorrelation(case, layer) -> None:
    for decorrelated in (False, True):
        net = nn.Sequential(made(case, layer)[0], nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
        x = made(case, layer)[1]
        net(x)
        if decorrelated:
            net = decorrelate(net, rate=0.01)
        estimator = NodePerturbation(net, squared_error, "anp", sigma=0.05)
        assert len(find_nodes(net)) == 2
        for _ in range(2):
            estimator(x, torch.ones(5, 2))
        for g in gradients(net).values():
            assert g.isfinite().all() and g.abs().sum() > 0


@EACH
def test_autograd_passes_through_to_the_layer(case) -> None:
    """For hardware-aware training, the baseline: twice, so that no graph is kept in between."""
    node, x = made(case, "linear")
    for _ in range(2):
        node(x).square().sum().backward()
        assert node.core[1].weight.grad.isfinite().all()
        assert node.core[1].weight.grad.abs().sum() > 0


@EACH
def test_noise_is_independent_in_the_two_passes_of_a_pair(case) -> None:
    """Noise shared by both passes cancels; 400 rows, and |correlation| below 0.2."""
    if not case.noisy or case.name == "reram":  # ReRAM has no noise of its own between writings
        pytest.skip("no noise between writings")
    torch.manual_seed(0)
    node = case.wrap(nn.Linear(6, 4), 1, 2)
    x = torch.randn(1, 6).expand(800, 6)
    first, second = node(x).unflatten(0, (2, 400))
    assert (first != second).any()
    first, second = first - first.mean(0), second - second.mean(0)
    correlation = (first * second).mean(0) / (first.std(0) * second.std(0)).clamp_min(1e-12)
    assert correlation.abs().max() < 0.2


def test_wrapping_twice_equals_wrapping_once_with_both_effects() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    pcm = PCM(device_seed=1, seed=2)
    twice = Noisy(Noisy(layer, pcm, seed=3), ADC(4, 2.0), AdditiveGaussian(0.1, 4))
    torch.manual_seed(0)
    once = Noisy(copy.deepcopy(layer), PCM(device_seed=1, seed=2), ADC(4, 2.0), seed=3)
    once = nn.Sequential(once, AdditiveGaussian(0.1, 4))
    assert torch.equal(twice(x), once(x))
    assert [type(e) for e in twice.effects] == [PCM, ADC, AdditiveGaussian]


def test_the_order_of_effects_is_the_order_given() -> None:
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    gain, adc = GainOffset(0.5, 0.5, device_seed=1), ADC(2, 1.0)
    assert torch.equal(Noisy(layer, gain, adc)(x), adc(gain(layer(x))))
    assert torch.equal(Noisy(layer, adc, gain)(x), gain(adc(layer(x))))


def test_weights_are_changed_through_other_wrappers() -> None:
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    spread = WeightSpread(0.5, device_seed=1)
    inside = Noisy(During("training", Noisy(layer, ADC(8, 5.0))), spread)
    straight = Noisy(layer, spread, ADC(8, 5.0))
    torch.testing.assert_close(inside(x), straight(x))


@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_noise_in_one_phase_only(phase: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    net = During(phase, Noisy(layer, WeightSpread(0.5), AdditiveGaussian(0.1)))
    for training in (True, False):
        noisy = not torch.equal(net.train(training)(x), layer(x))
        assert noisy is (training == (phase == "training"))
    decorrelated = decorrelate(nn.Sequential(layer))[0]
    decorrelated.R.mul_(2)
    bare = During("training", Noisy(decorrelated, AdditiveGaussian(0.1))).eval()
    assert torch.equal(bare(x), decorrelated(x))  # R is no device


def test_all_random_streams_of_a_system_differ() -> None:
    """Noises, units, product noise, writing, read-out, and the patterns of every chip."""
    torch.manual_seed(0)
    for name, system in SYSTEMS.items():
        for preset in () if system.boxed else (None, *PRESETS):
            build = NetworkSettings(hidden=(7, 7), intrinsic_noise=0.1, device_preset=preset)
            net = system.build((7,) if system.text else (1, 7, 7), 7, build)
            like = torch.zeros(7, 7)
            drawn = [m.normal(like) for m in net.modules() if isinstance(m, Source)]
            drawn += [m(like) for m in net.modules() if isinstance(m, Pattern) and m.value is None]
            first = {round(float(z[0, 0]), 5) for z in drawn}
            assert len(first) == len(drawn) >= 3, (name, preset)


def test_a_state_saved_before_the_first_call_is_the_same_chip() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(5, 6)
    one, other = (
        Noisy(copy.deepcopy(layer), WeightSpread(0.3), PCM(), AdditiveGaussian(0.1))
        for _ in range(2)
    )
    other.load_state_dict(load(save(one.state_dict())))
    assert torch.equal(one(x), other(x))


def test_activities_that_are_not_finite_stay_so_without_an_exception() -> None:
    """The training loop then detects a diverged loss."""
    a = torch.tensor([[float("nan"), 1.0, float("inf")]])
    for module in (Shot(10.0), Bernoulli(), Poisson(), StochasticRounding()):
        out = module(a)
        assert out[0, 0].isnan() and out[0, 1].isfinite()


def test_bfloat16_keeps_the_flips_and_the_faults() -> None:
    noise = Telegraph(1.0, 0.5, mean=0, white=0, seed=1)
    drawn = noise(torch.zeros(1000, 20, dtype=torch.bfloat16))
    late = (drawn[901:] != drawn[900:-1]).float().mean()
    assert 0.4 < late < 0.6
    node = Noisy(nn.Linear(6, 4), StuckAt(0.2, 0.2)).bfloat16()
    assert node(torch.ones(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_decorrelated_convolution_uses_the_converted_inputs() -> None:
    net = decorrelate(nn.Sequential(Noisy(nn.Conv2d(2, 3, 3), DAC(2, 1.0)), nn.Flatten()))
    x = torch.randn(4, 2, 3, 3)
    probe = Probe(survey(net), batch=4, resamples=1, injection=Injection(0.1))
    with torch.no_grad(), probe:
        net(probe.stack(x))
    (call,) = probe.calls
    assert set(call.x.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(call.raw, x)
