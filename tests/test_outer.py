"""credit ⊗ x against autograd, for every layer type, over random shapes."""

import pytest
import torch
from cases import LAYER_CASES, LayerCase
from geometries import convolutions, norms, transposed
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


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=100, deadline=None)
@given(found=st.one_of(convolutions(), transposed(), norms()), batch=st.integers(2, 3))
def test_any_geometry_equals_autograd(found, batch: int) -> None:
    layer, shape = found
    x = torch.randn(batch, *shape, dtype=torch.float64)
    assert_equals_autograd(layer, x, tolerance=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 6),
    width=st.integers(1, 4),
    padding=st.booleans(),
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_any_embedding_equals_autograd(rows: int, width: int, padding: bool, shape) -> None:
    """Repeated numbers add up, and the padding row gets nothing."""
    layer = nn.Embedding(rows, width, padding_idx=rows - 1 if padding else None).double()
    x = torch.randint(rows, shape)
    assert_equals_autograd(layer, x, tolerance=1e-12)
    if padding:
        accumulate_(layer, x, torch.ones(*shape, width, dtype=torch.float64))
        assert not layer.weight.grad[-1].any()


def test_a_transposed_convolution_may_be_given_its_output_size() -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, stride=3, padding=1).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64)
    output = layer(x, output_size=(8, 12))
    credit = torch.randn_like(output)
    (expected,) = torch.autograd.grad(output, layer.weight, credit)
    torch.testing.assert_close(outer(layer, x, credit)["weight"], expected)


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
