"""credit ⊗ x against autograd, for every layer type, over random shapes."""

import pytest
import torch
from cases import LAYER_CASES, LayerCase
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisynets.core.decorrelation import decorrelated
from noisynets.core.outer import accumulate_, has_outer, outer


def assert_equals_autograd(layer: nn.Module, x: torch.Tensor, tolerance: float = 1e-10) -> None:
    output = layer(x)
    credit = torch.randn_like(output)
    output.backward(credit)
    expected = {name: p.grad.clone() for name, p in layer.named_parameters()}
    layer.zero_grad()
    with torch.no_grad():
        accumulate_(layer, x, credit)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("batch", [1, 4])
def test_equals_autograd(case: LayerCase, batch: int) -> None:
    torch.manual_seed(0)
    assert_equals_autograd(
        case.make().double(), torch.randn(batch, *case.shape, dtype=torch.float64)
    )


@pytest.mark.parametrize("case", LAYER_CASES, ids=lambda case: case.name)
def test_products_in_bfloat16_are_close_and_leave_float32_gradients(case: LayerCase) -> None:
    """Within 2 % of the largest entry: 8 bits of every factor, sums in more."""
    torch.manual_seed(0)
    layer, x = case.make(), torch.randn(4, *case.shape)
    credit = torch.randn_like(layer(x))
    found = {}
    for dtype in (None, torch.bfloat16):
        layer.zero_grad()
        with torch.no_grad():
            accumulate_(layer, x, credit, dtype)
        found[dtype] = {name: p.grad for name, p in layer.named_parameters()}
    for name, exact in found[None].items():
        rounded = found[torch.bfloat16][name]
        assert rounded is not None and exact is not None and rounded.dtype == torch.float32
        assert float((rounded - exact).abs().max()) < 0.02 * float(exact.abs().max()), name


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(5, 8), st.integers(5, 8)),
    batch=st.integers(1, 3),
)
def test_any_convolution_equals_autograd(
    kernel, stride, padding, dilation, groups, size, batch
) -> None:
    layer = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups).double()
    assert_equals_autograd(layer, torch.randn(batch, 2, *size, dtype=torch.float64))


@pytest.mark.parametrize("demean", [False, True])
@pytest.mark.parametrize("variant", ["offdiag", "rescaled"])
def test_decorrelated_convolution_equals_autograd(demean: bool, variant: str) -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(2, 3, 3, stride=2, padding=1).double()
    module = decorrelated(layer, demean=demean, variant=variant)
    module.R.add_(0.1 * torch.randn_like(module.R))
    if demean:
        module.mean.normal_()
    assert_equals_autograd(module, torch.randn(4, 2, 7, 7, dtype=torch.float64))


def test_subclasses_resolve_and_frozen_parameters_are_left_alone() -> None:
    class Mine(nn.Linear):
        pass

    layer = Mine(3, 2)
    assert has_outer(layer)
    layer.bias.requires_grad_(False)
    accumulate_(layer, torch.ones(4, 3), torch.ones(4, 2))
    assert layer.bias.grad is None
    assert torch.equal(layer.weight.grad, torch.full((2, 3), 4.0))


def test_gradients_accumulate_as_in_backward() -> None:
    layer = nn.Linear(3, 2)
    for _ in range(2):
        accumulate_(layer, torch.ones(4, 3), torch.ones(4, 2))
    assert torch.equal(layer.weight.grad, torch.full((2, 3), 8.0))


def test_unknown_layers_are_refused_by_name() -> None:
    with pytest.raises(NotImplementedError, match="Bilinear"):
        outer(nn.Bilinear(2, 2, 2), torch.ones(1, 2), torch.ones(1, 2))
