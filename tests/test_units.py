"""Units against their equations; the stochastic ones against their mean and variance."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from cases import UNIT_CASES
from safetensors.torch import load, save

from noisynets import InputError, NodePerturbation, squared_error
from noisynets.systems.catalogue import SYSTEMS
from noisynets.systems.settings import NetworkSettings
from noisynets.systems.units import (
    Bernoulli,
    KWinners,
    Poisson,
    Quantiser,
    StochasticRounding,
    Ternary,
)

EACH = pytest.mark.parametrize("case", UNIT_CASES, ids=lambda case: case.name)


@EACH
def test_units_match_their_equations(case) -> None:
    """50,000 draws per activity: mean within 5 standard errors, variance within 10 %."""
    a = torch.tensor([[-2.0, -0.8, -0.3, 0.25, 0.6, 1.1, 1.9]], dtype=torch.float64)
    unit, n = case.make(1), 50_000
    drawn = unit(a.expand(n, -1))
    mean, variance = case.mean(a)[0], case.variance(a)[0]
    assert ((drawn.mean(0) - mean).abs() <= 5 * (variance / n).sqrt() + 1e-12).all()
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.1, atol=1e-12)


@EACH
def test_units_keep_shape_dtype_input_and_bits(case) -> None:
    for dtype in (torch.float32, torch.float64):
        a = torch.linspace(-2, 2, 48, dtype=dtype).view(4, 3, 4)
        before, state = a.clone(), torch.get_rng_state()
        first, second, third = case.make(1), case.make(1), case.make(1)
        out = first(a)
        assert out.shape == a.shape and out.dtype == dtype and torch.equal(a, before)
        assert torch.equal(second(a), out)
        saved = save(first.state_dict())
        expected = first(a)
        third.load_state_dict(load(saved))
        twin = pickle.loads(pickle.dumps(copy.deepcopy(second)))
        assert torch.equal(third(a), expected) and torch.equal(twin(a), expected)
        assert torch.equal(torch.get_rng_state(), state)


@EACH
def test_a_network_of_every_unit_gets_gradients(case) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), case.make(1), torch.nn.Linear(8, 2))
    estimator = NodePerturbation(net, squared_error, "anp", sigma=0.5)
    estimator(torch.randn(20, 3), torch.randn(20, 2))
    for p in net.parameters():
        assert p.grad.isfinite().all() and p.grad.abs().sum() > 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_quantiser_has_exactly_its_levels(bits: int) -> None:
    a = torch.linspace(-3, 3, 100_001, dtype=torch.float64)
    levels = Quantiser(bits, -1, 2)(a).unique()
    expected = torch.linspace(-1, 2, 2**bits, dtype=torch.float64)
    torch.testing.assert_close(levels, expected, rtol=0, atol=1e-12)


def test_k_winners_are_chosen_from_all_nodes_of_a_sample() -> None:
    a = torch.rand(5, 3, 4, 4) + 1
    kept = KWinners(7)(a)
    assert (kept.flatten(1) > 0).sum(1).tolist() == [7] * 5
    assert torch.equal(kept[kept > 0], a[kept > 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantiser(0), "0 bits"),
        (lambda: Quantiser(4, 1, 1), "must be below the highest level"),
        (lambda: KWinners(0), "at least 1"),
        (lambda: KWinners(9)(torch.ones(2, 4)), "9 winners among 4"),
        (lambda: Bernoulli(0), "temperature 0"),
        (lambda: StochasticRounding(-1), "step -1"),
        (lambda: Poisson(float("nan")), "dt nan"),
        (lambda: Ternary(-0.1), "threshold -0.1"),
    ],
)
def test_bad_settings_are_refused_in_one_line(make, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("system", ["sign-mlp", "step-mlp", "quantised-mlp", "bernoulli-mlp"])
def test_backpropagation_uses_straight_through_derivatives(system: str) -> None:
    """The values are the unit's, to the bit; the lower layer gets a gradient."""
    kind = SYSTEMS[system]
    build = NetworkSettings(hidden=(8,), intrinsic_noise=0.3)
    plain, soft = (
        kind.build((5,), 3, replace(build, straight_through=through)) for through in (False, True)
    )
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    out = soft(x)
    assert torch.equal(plain(x), out)
    out.square().sum().backward()
    lowest = next(soft.parameters()).grad
    assert lowest is not None and float(lowest.abs().sum()) > 0
