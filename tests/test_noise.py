"""Samplers and the system's own noise against their distributions; streams against their bits."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from tiny import run
from torch import nn

from noisynets import AdditiveGaussian, InputError, Noisy
from noisynets.core.noise import (
    MANY,
    SAMPLERS,
    Injection,
    Source,
    Stream,
    gaussian,
    gaussian_table,
    rademacher,
)
from noisynets.core.tables import gaussian_pairs
from noisynets.systems.devices import (
    Coloured,
    MultiplicativeGaussian,
    TrialGaussian,
    WeightNoise,
)

CDF = {
    "gaussian": stats.norm.cdf,
    "gaussian-table": stats.norm.cdf,
    "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5).cdf,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_have_unit_variance_and_their_distribution(name: str) -> None:
    """40,000 draws: mean within 4 standard errors, variance within 4 %, KS test at 0.1 %."""
    z = SAMPLERS[name]((40_000,), torch.zeros((), dtype=torch.float64), stream(1).on(z_device()))
    assert abs(float(z.mean())) < 4 / 200
    assert float(z.var()) == pytest.approx(1, abs=0.04)
    if name in CDF:
        assert stats.kstest(z.numpy(), CDF[name]).pvalue > 1e-3
    else:
        assert set(z.tolist()) == {-1.0, 1.0}


def assert_normal(z: torch.Tensor) -> None:
    """Kolmogorov-Smirnov test at 0.01 %, and tails beyond 3, 3.5 and 4 σ within 4.5 errors."""
    assert stats.kstest(z[:100_000].numpy(), stats.norm.cdf).pvalue > 1e-4
    for limit in (3.0, 3.5, 4.0):
        expected = len(z) * 2 * stats.norm.sf(limit)
        found = int((z.abs() > limit).sum())
        assert abs(found - expected) < 4.5 * expected**0.5, (limit, found, expected)


SIZES = [(997, 1_000), (1, 2**16), (3, 2**18)]
"""(draws, numbers in each): below, at and above 65,536, from where a table was once used."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("draws", "size"), SIZES)
def test_gaussian_noise_is_exact_at_every_size(draws, size, dtype) -> None:
    drawn_by = stream(5).on(z_device())
    like = torch.zeros((), dtype=dtype)
    z = torch.cat([gaussian((size,), like, drawn_by) for _ in range(draws)])
    assert z.dtype == dtype
    assert_normal(z.double())


@pytest.mark.parametrize(
    ("size", "dtype", "from_table"),
    [
        (MANY - 1, torch.float32, False),
        (MANY, torch.float32, True),
        (2**18, torch.float32, True),
        (2**18, torch.float64, False),
    ],
)
def test_the_table_serves_large_tensors_of_float32_alone(size, dtype, from_table) -> None:
    """Its numbers are 256 radii times 256 angles, none above 3.62."""
    z, exact = (
        sampler((size,), torch.zeros((), dtype=dtype), stream(5).on(z_device()))
        for sampler in (gaussian_table, gaussian)
    )
    own = torch.view_as_real(gaussian_pairs()).flatten().unique()
    assert 3.61 < float(own.max()) < 3.62
    assert torch.equal(z, exact) != from_table
    assert bool(torch.isin(z.float(), own).all()) == from_table


OWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "additive": lambda a: AdditiveGaussian(1.0, 1)(a),
    "trial": lambda a: TrialGaussian(1.0, 1)(a),
    "multiplicative": lambda a: MultiplicativeGaussian(1.0, 1)(a + 1) - 1,
    "white": lambda a: Coloured(1.0, beta=0.0, seed=1)(a),
    "weights": lambda a: weight_noise(len(a)),
    "source": Source(1).normal,
}
"""Gaussian noise of σ 1 of systems' own, with the shape of its argument."""


def weight_noise(rows: int) -> torch.Tensor:
    """Noise of variance 1 from noisy weights: σ max|W| = 1, on an input of norm 1."""
    layer = nn.Linear(1, 256, bias=False)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        found: torch.Tensor = Noisy(layer, WeightNoise(1.0), seed=1)(torch.ones(rows, 1))
    return found - 1


@pytest.mark.parametrize("kind", OWN)
def test_the_noise_of_a_system_never_comes_from_the_table(kind: str) -> None:
    """In tensors of 786,432 numbers, of which the table would have none beyond 3.62."""
    assert_normal(OWN[kind](torch.zeros(3 * 2**10, 256)).flatten().double())


def test_a_run_names_the_sampler_that_it_uses(tmp_path: Path) -> None:
    folder = run(tmp_path, rule="np", noise="gaussian-table", epochs=1)
    assert json.loads((folder.path / "config.json").read_text())["noise"] == "gaussian-table"


def test_the_table_has_exact_moments() -> None:
    """The table's own: mean, covariance of a pair, 3rd and 4th moments, distance from Φ."""
    pairs = torch.view_as_real(gaussian_pairs()).double()
    assert float(pairs.mean(0).abs().max()) < 1e-7
    torch.testing.assert_close(
        pairs.T @ pairs / len(pairs), torch.eye(2).double(), atol=1e-6, rtol=0
    )
    z = pairs.flatten().sort().values
    assert abs(float(z.pow(3).mean())) < 1e-6 and float(z.pow(4).mean()) == pytest.approx(
        3, abs=0.01
    )
    middle = (torch.arange(len(z), dtype=torch.float64) + 0.5) / len(z)
    assert float((torch.special.ndtr(z) - middle).abs().max()) < 2e-3


@pytest.mark.parametrize("shape", [(2**16,), (3, 29_127), (257, 1, 511)])
def test_numbers_from_the_table_are_independent_and_come_again(shape: tuple[int, ...]) -> None:
    """Odd numbers and several pieces; moments within 4 standard errors, neighbours uncorrelated."""
    draws = [gaussian_table(shape, torch.zeros(()), stream(3).on(z_device())) for _ in range(2)]
    assert torch.equal(*draws) and draws[0].shape == shape and draws[0].dtype == torch.float32
    z = draws[0].flatten().double()
    assert abs(float(z.mean())) < 4 / len(z) ** 0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / len(z)) ** 0.5
    for apart in (1, 2, 3, 4, 8, 2**16):
        if apart < len(z):
            found = float((z[apart:] * z[:-apart]).mean())
            assert abs(found) < 4.5 / (len(z) - apart) ** 0.5, apart


@pytest.mark.parametrize("numbers", [0, 1, 7, 8, 9, 100_003])
def test_any_number_of_signs(numbers: int) -> None:
    z = rademacher((numbers,), torch.zeros((), dtype=torch.float64), stream(3).on(z_device()))
    assert z.shape == (numbers,) and z.dtype == torch.float64 and bool((z.abs() == 1).all())
    assert abs(float(z.sum())) <= 4 * numbers**0.5 + 1


def test_a_default_device_changes_nothing() -> None:
    """Meta stands for any other device than the CPU."""
    gaussian_pairs.cache_clear()
    plain = gaussian_table((2**16,), torch.zeros(()), stream(3).on(z_device()))
    gaussian_pairs.cache_clear()
    with torch.device("meta"):
        like = torch.zeros((), device="cpu")
        found = gaussian_table((2**16,), like, stream(3).on(z_device()))
        signs = rademacher((9,), like, stream(3).on(z_device()))
    gaussian_pairs.cache_clear()
    assert torch.equal(found, plain) and signs.device.type == "cpu"


def z_device() -> torch.device:
    return torch.device("cpu")


def stream(seed: int) -> Stream:
    return Stream(seed, "a test")


def test_the_systems_own_noise_is_gaussian_and_never_the_same() -> None:
    noise = AdditiveGaussian(0.3, seed=2)
    a = torch.ones(200, 200)
    first, second = noise(a), noise(a)
    assert stats.kstest((first - 1).flatten().numpy()[:5000], stats.norm(0, 0.3).cdf).pvalue > 1e-3
    assert abs(float(torch.corrcoef(torch.stack([first, second]).flatten(1))[0, 1])) < 0.02
    assert not torch.equal(first, noise.eval()(a))


def test_streams_continue_from_their_state_and_copies_are_independent() -> None:
    import copy

    a = Injection(0.1, seed=4)
    like = torch.zeros(())
    fresh = stream(4).state()
    assert fresh.numel() == 0
    twin = copy.deepcopy(a.stream)
    first = a((3,), like)
    a.stream.restore(twin.state())
    assert torch.equal(a((3,), like), first)


def test_without_a_seed_every_node_has_noise_of_its_own() -> None:
    a = torch.zeros(50)
    torch.manual_seed(0)
    first, second = AdditiveGaussian(0.3)(a), AdditiveGaussian(0.3)(a)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, AdditiveGaussian(0.3)(a))


def test_the_noise_cannot_be_switched_off() -> None:
    noise = AdditiveGaussian(0.3)
    noise.sigma = 0.0  # an attribute like any other, which nothing reads
    assert noise.eval()(torch.zeros(100)).std() > 0.1


def test_bad_noise_is_refused() -> None:
    with pytest.raises(InputError):
        AdditiveGaussian(-0.1)
    with pytest.raises(InputError, match="did you mean 'uniform'"):
        Injection(0.1, "unifrom")
