"""Each effect against its equation: closed forms, exact levels, values of its source."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.func import functional_call

from noisynets import InputError, Noisy, SystemRefused
from noisynets.core.types import Weights
from noisynets.systems.devices import (
    ADC,
    DAC,
    PCM,
    AdditiveGaussian,
    Chip,
    Coloured,
    During,
    GainOffset,
    MultiplicativeGaussian,
    Pattern,
    Periphery,
    ReRAM,
    Shot,
    StochasticSynapse,
    StuckAt,
    Telegraph,
    WeightBounds,
    WeightNoise,
    WeightSpread,
    advance_,
    pcm,
    reram,
)
from noisynets.systems.devices.conductance import DeviceArray
from noisynets.systems.devices.converters import quantise

F64 = torch.float64
DAY = 86400.0


def reads(layer: nn.Module, x: torch.Tensor, n: int = 20_000) -> torch.Tensor:
    """The activities (n, out) of n equal inputs, each with its own product."""
    with torch.no_grad():
        return layer(x.expand(n, *x.shape))


def close(value: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Mean within 5 standard errors, variance within 5 of its own (Gaussian), column by column."""
    n = len(value)
    assert ((value.mean(0) - mean).abs() <= 5 * (variance / n).sqrt() + 1e-9).all()
    assert ((value.var(0) - variance).abs() <= 5 * variance * (2 / n) ** 0.5 + 1e-9).all()


# --- noise of the activities ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "law"),
    [
        (AdditiveGaussian(0.3, 1), lambda a: stats.norm(a, 0.3)),
        (MultiplicativeGaussian(0.2, 1), lambda a: stats.norm(a, 0.2 * abs(a))),
    ],
)
def test_gaussian_noise_has_its_distribution(effect, law) -> None:
    """Kolmogorov-Smirnov on 20,000 draws, at 0.1 %."""
    for a in (-2.0, 0.5, 3.0):
        drawn = effect(torch.full((20_000,), a, dtype=F64))
        assert stats.kstest(drawn.numpy(), law(a).cdf).pvalue > 1e-3


def test_shot_noise_counts_quanta() -> None:
    """Frequencies of counts, of 20,000, against Poisson(n|a|): chi-squared at 0.1 %."""
    for a in (0.5, -1.3):
        drawn = Shot(quanta=4, seed=1)(torch.full((20_000,), a, dtype=F64))
        counts = (drawn * 4 * math.copysign(1, a)).round()
        torch.testing.assert_close(counts / 4 * math.copysign(1, a), drawn)
        seen = np.bincount(counts.int().numpy(), minlength=30)[:12]
        expected = stats.poisson(4 * abs(a)).pmf(np.arange(12)) * 20_000
        enough = expected > 5
        chi2 = ((seen - expected)[enough] ** 2 / expected[enough]).sum()
        assert stats.chi2(enough.sum() - 1).sf(chi2) > 1e-3


def autocorrelation(signal: torch.Tensor, lags: int) -> torch.Tensor:
    """Of each column of (rows, n), whose mean is known to be 0, averaged over columns."""
    rows = len(signal)
    return torch.stack([(signal[: rows - k] * signal[k:]).mean() for k in range(lags)])


@pytest.mark.parametrize("flips", [0.0809, 0.3, 0.9])
def test_telegraph_noise_has_its_levels_and_correlation(flips: float) -> None:
    """100 chains of 10,000 rows, in two calls: (1 − 2p)^k within 0.01 for 12 lags."""
    noise = Telegraph(0.5, flips, mean=0.1, white=0.0, seed=1)
    a = torch.zeros(5000, 100, dtype=F64)
    drawn = torch.cat([noise(a), noise(a)]) - 0.1
    assert drawn.unique().tolist() == pytest.approx([-0.5, 0.5])
    found = autocorrelation(drawn / 0.5, 12)
    expected = (1 - 2 * flips) ** torch.arange(12, dtype=F64)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    assert ((drawn[1:] != drawn[:-1]).double().mean() - flips).abs() < 0.003
    assert (drawn[5000] != drawn[4999]).double().mean() == pytest.approx(flips, abs=0.15)


def test_the_default_telegraph_noise_has_the_values_of_its_source() -> None:
    drawn = Telegraph(seed=1)(torch.zeros(4000, 200, dtype=F64))
    assert float(drawn.mean()) == pytest.approx(0.042, abs=1e-4)
    assert float(drawn.var()) == pytest.approx(0.0059**2 + 9e-4**2, rel=0.02)


@pytest.mark.parametrize("beta", [0.0, 1.0, 1.8])
def test_coloured_noise_has_its_correlation_and_its_spectrum(beta: float) -> None:
    """200 series of 4,096 rows, in calls of 1,024: Σ h h within 4 standard errors (Bartlett), here
    0.006 to 0.08; |f|^−β between the ends."""
    noise = Coloured(2.0, beta, memory=256, seed=1)
    a = torch.zeros(1024, 200, dtype=F64)
    drawn = torch.cat([noise(a) for _ in range(4)]) / 2
    h = noise.filter()
    rho = torch.stack([(h[: 256 - k] * h[k:]).sum() for k in range(256)])
    expected, n = rho[:20], drawn.numel()
    error = float((2 / n * (1 + 2 * rho[1:].square().sum())) ** 0.5)
    torch.testing.assert_close(autocorrelation(drawn, 20), expected, rtol=0, atol=4 * error)
    assert float(expected[0]) == pytest.approx(1)
    power = torch.fft.rfft(drawn, dim=0).abs().square().mean(1)
    f = torch.fft.rfftfreq(4096, dtype=F64)
    band = (f > 4 / 256) & (f < 0.1)
    slope = stats.linregress(f[band].log(), power[band].log()).slope
    assert slope == pytest.approx(-beta, abs=0.06)


def test_time_runs_along_the_reference_batch_then_along_the_noisy_batches() -> None:
    """In the difference of a pair slow noise stays; between neighbours it would cancel."""
    noise = Telegraph(1.0, 0.01, mean=0, white=0, seed=1)
    reference, noisy = noise(torch.zeros(400, 500, dtype=F64)).unflatten(0, (2, 200))
    correlation = float((reference * noisy).mean())
    assert correlation == pytest.approx(0.98**200, abs=0.05)
    neighbours = float((reference[1:] * reference[:-1]).mean())
    assert neighbours == pytest.approx(0.98, abs=0.01)


# --- converters -------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "bound", "step"), [(7, 1.0, 2 / 126), (9, 12.0, 24 / 510)])
def test_converters_have_the_levels_of_aihwkit(bits: int, bound: float, step: float) -> None:
    a = torch.linspace(-1.2 * bound, 1.2 * bound, 50_001, dtype=F64).unsqueeze(1)
    levels = ADC(bits, bound)(a).unique()
    assert len(levels) == 2**bits - 1
    torch.testing.assert_close(levels.diff(), torch.full_like(levels[1:], step))
    assert levels[0] == -bound and levels[-1] == bound and (levels == 0).any()
    assert torch.equal(DAC(bits, bound).inputs(a), ADC(bits, bound)(a))
    inside = a.abs() <= bound
    assert (ADC(bits, bound)(a) - a)[inside].abs().max() <= step / 2 + 1e-9


def test_the_gradient_includes_clipping_but_not_rounding() -> None:
    a = torch.tensor([-3.0, 0.1, 0.6], requires_grad=True)
    quantise(a, 3, 1.0).sum().backward()
    assert a.grad.tolist() == [0.0, 1.0, 1.0]


# --- weights that are noisy in every product --------------------------------------------------


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(30, 4, dtype=F64)


def test_weight_noise_equals_a_new_weight_matrix_in_every_product() -> None:
    layer, x = linear(), torch.randn(30, dtype=F64)
    sigma = 0.1 * layer.weight.abs().max()
    drawn = reads(Noisy(layer, WeightNoise(0.1), seed=1), x)
    close(drawn, layer(x), (sigma**2 * x.square().sum()).expand(4))


def test_stochastic_synapses_have_mean_and_variance_of_bernoulli_masks() -> None:
    """Against 4,000 explicit masks, and both against p Σ W x and p(1 − p) Σ W² x²."""
    layer, x, p = linear(), torch.randn(30, dtype=F64), 0.3
    mean = p * layer.weight @ x + layer.bias
    variance = p * (1 - p) * layer.weight.square() @ x.square()
    close(reads(Noisy(layer, StochasticSynapse(p), seed=1), x), mean, variance)
    torch.manual_seed(1)
    masks = torch.bernoulli(torch.full((4000, 4, 30), p, dtype=F64))
    close((masks * layer.weight) @ x + layer.bias, mean, variance)


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3, stride=2)])
def test_weight_noise_is_independent_for_every_patch(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer = layer.double()
    x = torch.randn(2, *[6] * (layer.weight.dim() - 2), dtype=F64)
    drawn = reads(Noisy(layer, WeightNoise(0.2), seed=1), x).flatten(1)
    sigma = 0.2 * layer.weight.abs().max()
    ones = torch.ones_like(layer.weight)
    summed = functional_call(layer, {"weight": ones, "bias": torch.zeros(3, dtype=F64)}, x.square())
    variance = summed.flatten() * sigma**2
    close(drawn, layer(x.unsqueeze(0)).flatten(), variance)
    correlation = torch.corrcoef(drawn.T)
    assert (correlation - torch.eye(len(correlation))).abs().max() < 0.05


def test_later_effects_transform_the_variance_of_the_weights() -> None:
    """Spread after noise scales the noise, release after noise thins it."""
    W = torch.full((1, 30), 2.0, dtype=F64)
    noisy = WeightNoise(0.1).weights(Weights(W))
    spread = WeightSpread(0.5, device_seed=1)
    factor = spread.weights(Weights(torch.ones_like(W))).mean
    torch.testing.assert_close(spread.weights(noisy).variance, 0.04 * factor.square())
    released = StochasticSynapse(0.25).weights(noisy).variance
    torch.testing.assert_close(released, torch.full_like(W, 0.25 * 0.04 + 0.1875 * 4))


# --- what differs between devices -------------------------------------------------------------


def test_weight_spread_has_its_distribution_and_is_fixed() -> None:
    W = torch.ones(200, 100, dtype=F64)
    spread = WeightSpread(0.3, device_seed=1)
    drawn = spread.weights(Weights(W)).mean.detach()
    assert stats.kstest(drawn.flatten().numpy(), stats.norm(1, 0.3).cdf).pvalue > 1e-3
    assert torch.equal(drawn, spread.weights(Weights(W)).mean)


def test_weight_bounds_differ_between_devices() -> None:
    """The two bounds of a device are N(0.6, 0.18²), apart, and never cross 0."""
    huge = torch.full((200, 100), 9.0, dtype=F64)
    bounds = WeightBounds(0.6, 0.3, device_seed=1)
    high, low = bounds.weights(Weights(huge)).mean, -bounds.weights(Weights(-huge)).mean
    for edge in (high, low):
        assert stats.kstest(edge.flatten().numpy(), stats.norm(0.6, 0.18).cdf).pvalue > 1e-3
        assert edge.min() >= 0
    assert abs(float(torch.corrcoef(torch.stack([high, low]).flatten(1))[0, 1])) < 0.03
    small = torch.full((2, 2), 0.01, dtype=F64)
    assert torch.equal(WeightBounds(0.6, 0.1).weights(Weights(small)).mean, small)


@pytest.mark.parametrize(("shape", "dim"), [((3, 2000), 1), ((3, 2000, 2, 2), 1), ((3, 2, 9), -1)])
def test_gain_and_offset_are_one_pair_per_node(shape, dim: int) -> None:
    effect = GainOffset(0.3, 0.2, dim=dim, device_seed=1)
    nodes = shape[dim]
    one = torch.ones(shape, dtype=F64)
    offset = effect(0 * one).movedim(dim, 0).reshape(nodes, -1)
    gain = effect(one).movedim(dim, 0).reshape(nodes, -1) - offset
    assert (offset == offset[:, :1]).all() and torch.allclose(gain, gain[:, :1])
    if nodes > 100:
        assert stats.kstest(offset[:, 0].numpy(), stats.norm(0, 0.2).cdf).pvalue > 1e-3
        assert stats.kstest(gain[:, 0].numpy(), stats.norm(1, 0.3).cdf).pvalue > 1e-3


def test_the_share_of_stuck_devices_is_right_and_fixed() -> None:
    """200,000 devices in pairs: shares within 0.2 points (4 standard errors)."""
    W = torch.linspace(-1, 1, 100_000, dtype=F64).view(400, 250)
    effect = StuckAt(0.05, 0.10, device_seed=1)
    stuck = effect.weights(Weights(W)).mean
    W2 = 0.9 * W
    W2[0, 0] = -1  # the same scale
    again = effect.weights(Weights(W2)).mean
    free = (stuck != again) & (W != W2)  # what can still be written
    both = 0.85**2  # g⁺ and g⁻ free
    assert float((stuck == W).double().mean()) == pytest.approx(
        both + 0.85 * 0.05, abs=0.005
    )  # the idle one stuck at 0 does not matter
    assert float(free.double().mean()) == pytest.approx(0.85, abs=0.01)
    none = StuckAt(0.0, 0.0).weights(Weights(W)).mean
    torch.testing.assert_close(none, W)
    assert StuckAt(0.0, 1.0).weights(Weights(W)).mean.abs().max() == 0  # g_max − g_max


# --- phase-change memory ----------------------------------------------------------------------


def targets(n: int = 20_000) -> torch.Tensor:
    return torch.tensor([[0.05], [0.2], [0.5], [1.0]], dtype=F64).expand(4, n)


def test_pcm_programming_noise_is_the_polynomial_of_aihwkit() -> None:
    """20,000 devices at four conductances: σ[µS] = 0.26348 + 1.965 r − 1.1731 r², in 3 %."""
    r = targets()
    device = PCM(drift=0, device_seed=1, seed=2)
    g, _ = device.conductances(r)
    sigma = (0.26348 + 1.965 * r[:, 0] - 1.1731 * r[:, 0] ** 2) / 25
    torch.testing.assert_close(g.std(1), sigma, rtol=0.03, atol=0)
    torch.testing.assert_close(g.mean(1), r[:, 0], rtol=0.005, atol=0)
    at_50 = PCM(drift=0, g_max=50, device_seed=1, seed=2).conductances(r)[0]
    torch.testing.assert_close(at_50.std(1), sigma / 2, rtol=0.03, atol=0)
    zero, _ = device.__class__(seed=1).conductances(torch.zeros(1, 20_000, dtype=F64))
    assert zero.min() == 0 and float(zero.mean()) == pytest.approx(
        0.26348 / 25 / (2 * math.pi) ** 0.5, rel=0.05
    )


def test_pcm_drifts_as_a_power_of_time() -> None:
    """g (t/t₀)^−ν at an hour, a day, a month, with ν = |µ + s z| and the source's µ and s."""
    r = targets()
    device = PCM(programming=0, device_seed=1, seed=2)
    start, _ = device.conductances(r)
    assert torch.equal(start, r)
    age, exponents = 20.0, []
    for seconds in (3600.0, DAY, 30 * DAY):
        device.advance_(seconds)
        age += seconds
        g, _ = device.conductances(r)
        exponents.append(-(g / r).log() / math.log(age / 20))
    for nu in exponents:
        torch.testing.assert_close(nu, exponents[0], rtol=1e-9, atol=1e-9)  # one law for all times
    mean = (-0.0155 * r[:, 0].log() + 0.0244).clamp(0.049, 0.1)
    spread = (-0.0125 * r[:, 0].log() - 0.0059).clamp(0.008, 0.045)
    folded = stats.foldnorm(mean / spread, scale=spread)
    assert exponents[0].mean(1).numpy() == pytest.approx(folded.mean(), rel=0.01)
    assert exponents[0].std(1).numpy() == pytest.approx(folded.std(), rel=0.03)
    assert mean.tolist() == pytest.approx([0.0708, 0.0493, 0.049, 0.049], abs=1e-4)


def test_pcm_read_noise_is_one_over_f_noise_in_every_product() -> None:
    """One weight at g_max and others below: σ = g q √ln((t + t_r)/2t_r), 20,000 reads, 5 σ."""
    layer = nn.Linear(1, 4, bias=False, dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [0.3], [-0.5], [0.001]]))
    device = PCM(programming=0, drift=0, seed=1, device_seed=1)
    x = torch.full((1,), 2.0, dtype=F64)
    for seconds in (0.0, DAY):
        device_read = reads(Noisy(layer, device, seed=3), x)
        g = layer.weight.abs()[:, 0].detach()
        q = (0.0088 / g**0.65).clamp_max(0.2)
        sigma = g * q * math.log((20 + seconds + 250e-9) / 500e-9) ** 0.5
        close(device_read, 2 * layer.weight[:, 0].detach(), (2 * sigma) ** 2)
        device.advance_(DAY)


def test_devices_are_written_when_their_target_changes_and_only_then() -> None:
    array = DeviceArray(age=20.0, seed=1)
    target, sigma = torch.full((2, 50), 0.5, dtype=F64), torch.full((2, 50), 0.1, dtype=F64)
    first, age = (t.clone() for t in array.write(target, sigma))
    array.advance_(100.0)
    again, aged = array.write(target, sigma)
    assert torch.equal(first, again) and (aged == 120).all() and (age == 20).all()
    changed = target.clone()
    changed[0, :10] = 0.6
    third, aged = array.write(changed, sigma)
    assert torch.equal(third != first, changed != target)
    assert torch.equal(aged, torch.where(changed != target, 20.0, 120.0).double())


def test_time_advances_with_calls_also_in_tiny_steps() -> None:
    """10 s per call from 20 s on; and a microsecond per call after a year, in float32."""
    device = PCM(per_call=10.0, programming=0, read=0, device_seed=1, seed=2)
    r = torch.full((1, 50), 0.5, dtype=F64)
    g = torch.stack([device.conductances(r)[0] for _ in range(4)])
    nu = -(g[1] / g[0]).log() / math.log(30 / 20)
    for call in (2, 3):
        torch.testing.assert_close(g[call] / g[0], (1 + call / 2) ** -nu)
    slow = PCM(time=3e7, per_call=1e-6, device_seed=1, seed=2)
    for _ in range(100):
        slow.conductances(r.float())
    assert float(slow.array.age[0, 0] - 3e7) == pytest.approx(1e-4, rel=0.01)


def test_changed_weights_are_written_before_time_passes() -> None:
    device = PCM(programming=0, read=0, device_seed=1, seed=2)
    fresh = PCM(programming=0, read=0, device_seed=1, seed=2)
    r = torch.full((1, 50), 0.5, dtype=F64)
    device.conductances(0.7 * r)
    for pcm_ in (device, fresh):
        pcm_.advance_(DAY)
    late = device.conductances(r)[0]
    assert torch.equal(late, fresh.conductances(r)[0]) and (late < 0.8 * r).all()
    assert torch.equal(late, device.conductances(r)[0])


def test_the_chip_is_the_same_in_another_precision() -> None:
    torch.manual_seed(0)
    node = Noisy(nn.Linear(30, 20), PCM(1e6, read=0, device_seed=1, seed=2))
    x = torch.randn(5, 30)
    before = node(x)
    torch.testing.assert_close(node.double()(x.double()).float(), before, rtol=1e-3, atol=1e-4)


def test_time_passes_for_a_whole_system() -> None:
    chip = Chip("pcm", device_seed=1)
    net = nn.Sequential(chip(nn.Linear(30, 20)), nn.ReLU(), chip(nn.Linear(20, 5))).eval()
    x = torch.randn(400, 30)
    early = net(x).norm()
    advance_(net, 365 * DAY)
    late = net(x).norm()
    assert 0.1 < late / early < 0.8  # (1 y/1 min)^−0.06 is 0.45, for each of two layers
    with pytest.raises(InputError, match="this system has no drifting device"):
        advance_(nn.Sequential(nn.Linear(2, 2)), 1.0)
    with pytest.raises(InputError, match="seconds -1"):
        advance_(net, -1.0)


# --- resistive memory -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "coefficients"),
    [
        (1.0, [-16.815, 45.393, -43.853, 16.030, 0.348]),
        (DAY, [-16.458, 47.095, -50.773, 22.086, 0.701]),
        (2 * DAY, [-11.934, 37.062, -43.507, 20.274, 0.782]),
    ],
)
def test_reram_noise_is_the_polynomial_of_aihwkit(time: float, coefficients: list[float]) -> None:
    """The function exactly; 20,000 written devices in 4 %, where 0 is more than 4 σ away."""
    r = torch.linspace(0, 1, 21, dtype=F64)
    expected = np.polyval(coefficients, r.numpy()) / 40
    assert reram.programming_sigma(r, time).numpy() == pytest.approx(expected, rel=1e-12)
    layer = nn.Linear(1, 20_000, bias=False, dtype=F64)
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.weight[0] = 1
    drawn = ReRAM(time, seed=1).weights(Weights(layer.weight.detach())).mean[1:]
    own = np.polyval(coefficients, 0.5) / 40
    idle = np.polyval(coefficients, 0.0) / 40 * (0.5 - 0.5 / math.pi) ** 0.5  # max(z, 0)
    assert float(drawn.std()) == pytest.approx((own**2 + idle**2) ** 0.5, rel=0.04)


# --- the periphery ----------------------------------------------------------------------------


def test_the_periphery_computes_its_equation() -> None:
    """Against the equation in plain float64 loops, without noise; then the noise's size."""
    torch.manual_seed(0)
    layer, x = linear().requires_grad_(False), torch.randn(5, 30, dtype=F64)
    layer.weight.mul_(8)
    tile = Periphery(layer, sigma=0.0, nonlinearity=0.5, offset=0.2, bound=3.0, device_seed=1)
    found = tile(x)
    z = Pattern(1, "offsets of outputs")(torch.zeros(1, 4, dtype=F64))[0].tolist()
    gamma = float(layer.weight.abs().max())
    for b in range(5):
        alpha = float(x[b].abs().max())
        for i in range(4):
            y = sum(
                float(layer.weight[i, j]) / gamma * round(float(x[b, j]) / alpha * 63) / 63
                for j in range(30)
            )
            y = y / (1 + 0.5 * abs(y) / 3) + 0.2 * z[i]
            y = max(-3.0, min(3.0, y))
            expected = alpha * gamma * round(y / 3 * 255) / 255 * 3 + float(layer.bias[i])
            assert float(found[b, i]) == pytest.approx(expected, abs=1e-9)
    noisy = Periphery(layer, adc_bits=20, seed=2)
    drawn = reads(noisy, x[0])
    unit = float(layer.weight.abs().max() * x[0].abs().max())
    assert drawn.std(0).numpy() == pytest.approx(np.full(4, 0.06 * unit), rel=0.03)


def test_an_input_of_zeros_gives_the_bias() -> None:
    layer = nn.Conv2d(2, 3, 3)
    for factor in (1.0, 0.0):
        with torch.no_grad():
            layer.weight.mul_(factor)
        out = Periphery(layer, sigma=0.0)(torch.zeros(2, 2, 5, 5))
        torch.testing.assert_close(out, layer.bias.view(1, 3, 1, 1).expand_as(out))


def test_every_input_has_its_own_scale() -> None:
    """The outputs of an image, or of a position of a Linear, do not depend on the others."""
    torch.manual_seed(0)
    for layer, x in ((nn.Conv2d(2, 3, 3), torch.randn(4, 2, 5, 5)), (linear(), torch.randn(4, 30))):
        tile, x = Periphery(layer.double(), sigma=0.0), x.double()
        scaled = x.clone()
        scaled[1:] *= 100
        torch.testing.assert_close(tile(scaled)[0], tile(x)[0])


def test_a_stuck_device_has_no_noise() -> None:
    stuck = StuckAt(1.0, 0.0).weights(WeightNoise(0.1).weights(Weights(torch.ones(3, 4))))
    assert stuck.variance.abs().max() == 0
    half = StuckAt(0.5, 0.0, device_seed=1)
    W = torch.ones(50, 50)
    found = half.weights(WeightNoise(0.1).weights(Weights(W)))
    assert torch.equal(found.variance > 0, found.mean > 0)


def test_the_photonic_preset_leaves_two_to_four_bits() -> None:
    """log2 of the range ±1 over the step of a quantiser with the same noise, σ √12."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    chip = Chip("photonic")(layer)
    sigma = float(reads(chip, torch.full((1,), 0.7)).std())
    assert 2 < math.log2(2 / (sigma * 12**0.5)) < 4


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chip("pcram"), "did you mean 'pcm'"),
        (lambda: PCM(time=19.9), "before t0"),
        (lambda: PCM(time=float("nan")), "before t0"),
        (lambda: PCM(g_max=-25), "g_max -25 must be positive"),
        (lambda: PCM(read=-1), "read -1"),
        (lambda: ReRAM(time=3600), "3600 s was not measured: use one of 1, 86400, 172800"),
        (lambda: ReRAM(g_max=0), "g_max 0 must be positive"),
        (lambda: ADC(0), "0 bits"),
        (lambda: DAC(bits=1), "1 bits"),
        (lambda: DAC(bound=0), "bound 0"),
        (lambda: Periphery(nn.Linear(2, 2), dac_bits=0), "0 bits"),
        (lambda: StochasticSynapse(1.2), "release 1.2 must be a probability"),
        (lambda: StuckAt(0.7, 0.6), "low \\+ high 1.3 must be a probability"),
        (lambda: Telegraph(flips=2), "flips 2 must be a probability"),
        (lambda: Coloured(0.1, beta=2), "beta 2"),
        (lambda: Coloured(0.1, memory=1), "memory 1"),
        (lambda: AdditiveGaussian(float("inf")), "sigma inf"),
        (lambda: MultiplicativeGaussian(-1), "sigma -1"),
        (lambda: Shot(0), "quanta 0"),
        (lambda: WeightSpread(-0.1), "spread -0.1"),
        (lambda: WeightBounds(-0.6), "bound -0.6"),
        (lambda: WeightNoise(float("nan")), "sigma nan"),
        (lambda: GainOffset(0.1, -0.1), "offset -0.1"),
        (lambda: During("testing", Noisy(nn.Linear(2, 2), nn.Tanh())), "neither 'training'"),
        (lambda: Noisy(nn.Flatten(), PCM()), "no weight for a device"),
        (lambda: Periphery(nn.LayerNorm(3)), "only Linear and convolutions"),
        (lambda: Noisy(nn.LayerNorm(3), WeightNoise(0.1))(torch.ones(2, 3)), "not LayerNorm"),
        (
            lambda: Noisy(Periphery(nn.Linear(3, 2)), WeightNoise(0.1))(torch.ones(2, 3)),
            "put the effect next to the layer",
        ),
        (lambda: Telegraph(mean=float("nan")), "mean nan must be finite"),
        (lambda: Chip(device_seed=-1), "device_seed -1"),
        (lambda: During("training", AdditiveGaussian(0.1)), "wrap a layer"),
        (lambda: Noisy(nn.Sequential(nn.Linear(2, 2)), PCM()), "Sequential has no weight"),
        (lambda: Periphery(nn.Sequential(nn.Linear(2, 2))), "Sequential: only Linear"),
        (
            lambda: _twice(WeightSpread(0.1)),
            "shape \\(2, 3\\) is used for shape \\(3, 2\\)",
        ),
        (lambda: _twice(Telegraph()), "give each layer its own"),
    ],
)
def test_bad_settings_are_refused_in_one_line(make, message: str) -> None:
    with pytest.raises((InputError, SystemRefused), match=message) as error:
        make()
    assert "\n" not in str(error.value)


def _twice(effect: nn.Module) -> None:
    """The same effect on two layers of different shapes."""
    net = nn.Sequential(Noisy(nn.Linear(3, 2), effect), Noisy(nn.Linear(2, 3), effect))
    net(torch.ones(4, 3))


def test_the_constants_are_those_of_aihwkit() -> None:
    r = torch.tensor([1e-9, 0.05, 0.5, 1.0], dtype=F64)
    assert (pcm.drift_mean(r) <= 0.1).all() and (pcm.drift_mean(r) >= 0.049).all()
    assert pcm.read_sigma(r, torch.tensor(20.0, dtype=F64))[-1] == pytest.approx(
        0.0088 * math.log((20 + 250e-9) / 500e-9) ** 0.5
    )
    assert (pcm.T0, pcm.T_READ, pcm.G_MAX, reram.G_MAX) == (20.0, 250e-9, 25.0, 40.0)
