"""Samplers and the system's own noise against their distributions; streams against their bits."""

import pytest
import torch
from scipy import stats

from noisynets import AdditiveGaussian, InputError
from noisynets.core.noise import (
    SAMPLERS,
    Injection,
    Stream,
    gaussian,
    gaussian_pairs,
    rademacher,
)

CDF = {"gaussian": stats.norm.cdf, "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5).cdf}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_have_unit_variance_and_their_distribution(name: str) -> None:
    """40,000 draws: mean within 4 standard errors, variance within 4 %, KS test at 0.1 %."""
    z = SAMPLERS[name]((40_000,), torch.zeros((), dtype=torch.float64), Stream(1).on(z_device()))
    assert abs(float(z.mean())) < 4 / 200
    assert float(z.var()) == pytest.approx(1, abs=0.04)
    if name in CDF:
        assert stats.kstest(z.numpy(), CDF[name]).pvalue > 1e-3
    else:
        assert set(z.tolist()) == {-1.0, 1.0}


def test_many_gaussian_numbers_on_the_cpu_have_exact_moments() -> None:
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
def test_many_gaussian_numbers_are_independent_and_come_again(shape: tuple[int, ...]) -> None:
    """Odd numbers and several pieces; moments within 4 standard errors, neighbours uncorrelated."""
    draws = [gaussian(shape, torch.zeros(()), Stream(3).on(z_device())) for _ in range(2)]
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
    z = rademacher((numbers,), torch.zeros((), dtype=torch.float64), Stream(3).on(z_device()))
    assert z.shape == (numbers,) and z.dtype == torch.float64 and bool((z.abs() == 1).all())
    assert abs(float(z.sum())) <= 4 * numbers**0.5 + 1


def test_a_default_device_changes_nothing() -> None:
    """Meta stands for any other device than the CPU."""
    gaussian_pairs.cache_clear()
    plain = gaussian((2**16,), torch.zeros(()), Stream(3).on(z_device()))
    gaussian_pairs.cache_clear()
    with torch.device("meta"):
        like = torch.zeros((), device="cpu")
        found = gaussian((2**16,), like, Stream(3).on(z_device()))
        signs = rademacher((9,), like, Stream(3).on(z_device()))
    gaussian_pairs.cache_clear()
    assert torch.equal(found, plain) and signs.device.type == "cpu"


def z_device() -> torch.device:
    return torch.device("cpu")


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
    fresh = Stream(4).state()
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
