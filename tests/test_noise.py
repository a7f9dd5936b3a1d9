"""Samplers and the system's own noise against their distributions; streams against their bits."""

import pytest
import torch
from scipy import stats

from noisynets import AdditiveGaussian, InputError
from noisynets.noise import SAMPLERS, Injection, Stream

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
