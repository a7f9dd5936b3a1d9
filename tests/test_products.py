"""Mirrors of every kind of layer, learnt from differences alone, against autograd."""

import copy

import pytest
import torch
from cases import cosine
from geometries import BATCH_NORMS, convolutions, norms, transposed
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from noisynets.core.errors import SystemRefused
from noisynets.rules.credit.mirror import has_mirror, new_mirror
from noisynets.rules.fa import UnitGain
from noisynets.rules.kolen_pollack import FollowingMirror

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


def _differences(layer: nn.Module, x: Tensor, scale: float = 0.1) -> tuple[Tensor, Tensor]:
    """δx (2, B, *in) and the δa (2, B, *out) that follow; BatchNorm's statistics are those of x."""
    own = getattr(layer, "running_mean", None) is None or layer.training
    if isinstance(layer, BATCH_NORMS) and own:
        over = [d for d in range(x.dim()) if d != 1]
        variance, mean = torch.var_mean(x, over, correction=0)
        layer = copy.deepcopy(layer).eval()
        layer.running_mean, layer.running_var = mean, variance
    shift = scale * torch.randn(2, *x.shape, dtype=x.dtype)
    with torch.no_grad():
        return shift, torch.stack([layer(x + s) - layer(x) for s in shift])


def _gradient(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """A credit of the layer's output, and autograd's of its input."""
    x = x.clone().requires_grad_()
    output = layer(x)
    credit = torch.randn_like(output)
    return credit, torch.autograd.grad(output, x, credit)[0]


@settings(max_examples=15, deadline=None)
@given(found=st.one_of(convolutions(), transposed()))
def test_a_mirror_of_any_geometry_becomes_the_adjoint(found) -> None:
    """40 updates of 128 products without noise: cosine above 0.999, and predictions within 3 %.

    Errors fall by a constant factor per update, which is nearest to 1 where few taps meet an input.
    """
    layer, shape = found
    torch.manual_seed(0)
    assert has_mirror(layer)
    mirror = new_mirror(layer)
    for _ in range(40):
        x = torch.randn(16, *shape, dtype=torch.float64)
        shift, made = _differences(layer, x)
        mirror.update_(x, shift, made)
    credit, true = _gradient(layer, x)
    below = mirror(credit, x)
    assert below.shape == x.shape and cosine(below, true) > 0.999
    assert (mirror.predict(x, shift) - made).norm() < 0.03 * made.norm()


@settings(max_examples=40, deadline=None)
@given(found=st.one_of(convolutions(), transposed()))
def test_the_map_of_a_layers_weights_is_its_adjoint(found) -> None:
    layer, shape = found
    x = torch.randn(3, *shape, dtype=torch.float64)
    mirror, (shift, made) = new_mirror(layer), _differences(layer, x)
    mirror.map = mirror.as_map(layer.weight.detach())
    credit, true = _gradient(layer, x)
    torch.testing.assert_close(mirror(credit, x), true, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(mirror.predict(x, shift), made, rtol=1e-10, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(found=norms())
def test_a_mirror_of_a_normalisation_is_exact_after_one_update(found) -> None:
    """γ̂ is the gain, and credit is autograd's, through the statistics of the batch too."""
    layer, shape = found
    assert has_mirror(layer)
    mirror, x = new_mirror(layer), torch.randn(5, *shape, dtype=torch.float64)
    shift, made = _differences(layer, x)
    mirror.update_(x, shift, made)
    torch.testing.assert_close(mirror.map, layer.weight.detach(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mirror.predict(x, shift), made, rtol=1e-6, atol=1e-6)
    first = mirror.predict(x, shift[:, :2])
    torch.testing.assert_close(first, made[:, :2], rtol=1e-6, atol=1e-6)
    credit, true = _gradient(layer, x)
    torch.testing.assert_close(mirror(credit, x), true, rtol=1e-6, atol=1e-6)


def test_a_gain_is_learnt_through_noise_and_followed_when_it_changes() -> None:
    """200 updates of 64 rows, noise as large as the signal, then a gain of −1: within 0.1."""
    torch.manual_seed(0)
    layer = nn.LayerNorm(6)
    mirror = new_mirror(layer)
    for gain in (2.0, -1.0):
        nn.init.constant_(layer.weight, gain)
        for _ in range(200):
            x = torch.randn(64, 6)
            shift, made = _differences(layer, x)
            mirror.update_(x, shift, made + made.std() * torch.randn_like(made))
        assert (mirror.map - gain).abs().max() < 0.1 * abs(gain)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_reading_teaches_a_gain_nothing(value: float) -> None:
    torch.manual_seed(0)
    layer, x = nn.GroupNorm(1, 4), torch.randn(8, 4, 3)
    mirror, (shift, made) = new_mirror(layer), _differences(layer, x)
    for broken in (True, False, True):
        given = made.clone()
        if broken:
            given[0, 2, 1, 1] = value
        mirror.update_(x, shift, given)
    torch.testing.assert_close(mirror.map, torch.ones(4), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 4, 3, groups=4), (4, 5, 5)),
        (nn.ConvTranspose1d(2, 4, 3, stride=2, groups=2), (2, 5)),
        (nn.GroupNorm(2, 4), (4, 3)),
        (nn.LayerNorm((2, 3)), (2, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mirror_takes_over_changes_of_weights_and_is_restored(layer, shape) -> None:
    """M of a device without weights is 0, and ΔW once its weights change by ΔW."""
    torch.manual_seed(0)
    mirror, x = FollowingMirror(layer), torch.randn(9, *shape)
    shift, made = _differences(layer, x)
    mirror.update_(x, shift, torch.zeros_like(made))
    assert not mirror.map.any()
    other = FollowingMirror(copy.deepcopy(layer))
    other.restore(mirror.state(), torch.device("cpu"))
    change = torch.randn_like(layer.weight)
    for follows in (mirror, other):
        with torch.no_grad():
            follows.layer.weight += change
        below = follows(made[0], x)
        torch.testing.assert_close(follows.map, follows.mirror.as_map(change), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(below, mirror(made[0], x))


def test_random_feedback_passes_normalisations_as_if_their_gain_were_one() -> None:
    layer, x = nn.LayerNorm(5), torch.randn(4, 5)
    credit, true = _gradient(layer, x)
    torch.testing.assert_close(UnitGain(layer)(credit, x), true)


def test_an_output_size_that_the_layer_does_not_say_is_refused() -> None:
    layer, x = nn.ConvTranspose1d(2, 2, 3, stride=3), torch.randn(4, 2, 3)
    made = layer(x, output_size=(10,)).detach()[None]
    with pytest.raises(SystemRefused, match="output_padding"):
        new_mirror(layer).update_(x, x[None], made)


def test_layers_without_a_mirror() -> None:
    assert not has_mirror(nn.Embedding(3, 2)) and not has_mirror(nn.Bilinear(2, 2, 2))
