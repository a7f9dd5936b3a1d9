"""Decorrelation against loops, against what it promises, and against too large a rate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from noisynets import (
    Backpropagation,
    NodePerturbation,
    Noisy,
    SystemRefused,
    cross_entropy,
    decorrelate,
)
from noisynets.core.decorrelation import VARIANTS, decorrelated, decorrelations, unstable
from noisynets.core.decorrelation.updates import kappa


def correlated(rows: int, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(n, n, dtype=torch.float64, generator=generator)
    return torch.randn(rows, n, dtype=torch.float64, generator=generator) @ mix / n**0.5


def covariance(x: torch.Tensor, diagonal: bool) -> np.ndarray:
    C = sum(np.outer(row, row) for row in x.numpy()) / len(x)
    return C if diagonal else C * (1 - np.eye(len(C)))


def test_updates_agree_with_loops() -> None:
    raw, eta = correlated(8), 0.05
    R = (torch.eye(6, dtype=torch.float64) + 0.1 * correlated(6)).contiguous()
    x = raw @ R.T
    R0, C = R.numpy(), covariance(x, diagonal=False)
    v = (x.numpy() ** 2 - 1).mean(0)
    columns, rows = R0 * v[None, :], R0 * v[:, None]
    expected = {
        "offdiag": R0 - eta * C @ R0,
        "kappa": R0 - eta * (0.5 * C @ R0 + 0.5 * columns),
        "kappa-rows": R0 - eta * (0.5 * C @ R0 + 0.5 * rows),
    }
    right = raw @ R
    g = np.mean(np.linalg.norm(raw, axis=1) / np.linalg.norm(right, axis=1))
    expected["rescaled"] = g * R0 - eta * covariance(right, diagonal=True) @ (g * R0)
    assert expected.keys() == VARIANTS.keys()
    for name, update in VARIANTS.items():
        given_x = right if name == "rescaled" else x
        np.testing.assert_allclose(update(R, given_x, raw, eta).numpy(), expected[name], atol=1e-12)
    assert torch.equal(kappa(R, x, raw, eta, kappa=0.0), VARIANTS["offdiag"](R, x, raw, eta))


@pytest.mark.parametrize("variant", VARIANTS)
def test_correlations_go_down(variant: str) -> None:
    raw = correlated(2000)
    layer = decorrelated(nn.Linear(6, 2).double(), rate=0.02, variant=variant, rows=2000)

    def correlation() -> float:
        c = np.corrcoef(layer.decorrelate(raw).numpy().T)
        return float(np.abs(c - np.eye(6)).mean())

    before = correlation()
    for _ in range(300):
        layer.update_(raw)
    assert correlation() < 0.35 * before


def test_demeaning_follows_the_running_mean_and_stops_at_evaluation() -> None:
    layer = decorrelated(nn.Linear(6, 2).double(), demean=True, rate=0.0)
    raw = correlated(100) + 5
    layer.update_(raw)
    torch.testing.assert_close(layer.mean, 0.1 * raw.mean(0))
    frozen = layer.mean.clone()
    layer(raw)
    assert torch.equal(layer.mean, frozen)
    torch.testing.assert_close(layer(raw), layer.layer(raw - frozen))


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from([0, 1, "same"]),
    dilation=st.integers(1, 2),
    demean=st.booleans(),
)
def test_a_convolution_decorrelates_its_patches(kernel, stride, padding, dilation, demean) -> None:
    """W R (p − m) + b for every patch p, computed patch by patch."""
    if padding == "same":
        kernel, stride = 3, 1
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, kernel, stride, padding, dilation).double()
    module = decorrelated(conv, demean=demean)
    module.R.add_(0.3 * torch.randn_like(module.R))
    if demean:
        module.mean.normal_()
    raw = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    padded = dilation * (kernel - 1) // 2 if padding == "same" else padding  # of an odd kernel
    patches = F.unfold(raw, kernel, dilation, padded, stride).mT.flatten(0, 1)
    rows = module.decorrelate(patches) @ conv.weight.flatten(1).T + conv.bias
    output = module(raw)
    torch.testing.assert_close(rows.unflatten(0, (2, -1)).mT, output.flatten(2))
    torch.testing.assert_close(module.average(raw), patches.mean(0))


def test_sampled_patches_cover_pictures_and_positions() -> None:
    """32 patches of 50 pictures with 9 positions: nearly all different, everywhere."""
    pictures, positions = torch.meshgrid(torch.arange(50), torch.arange(9), indexing="ij")
    raw = (10 * pictures + positions).reshape(50, 1, 3, 3).float()
    (rows,) = decorrelated(nn.Conv2d(1, 2, 1)).sample(raw).T.long()
    assert len(rows.unique()) == 32
    assert len((rows // 10).unique()) > 20 and len((rows % 10).unique()) == 9
    one = decorrelated(nn.Conv2d(1, 2, 1), rows=5).sample(raw[:1])
    assert one.shape == (5, 1)


@pytest.mark.parametrize("rate", [1e-3, 1.0, 1e6, float("inf")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_rate_makes_nan(rate: float, variant: str) -> None:
    net = decorrelate(nn.Sequential(nn.Linear(6, 2).double()), rate=rate, variant=variant)
    for _ in range(200):
        net[0].update_(10 * correlated(50))
    assert bool(net[0].R.isfinite().all())
    assert unstable(net) == (["0"] if rate >= 1 else [])


def test_nan_inputs_do_not_reach_R() -> None:
    layer = decorrelated(nn.Linear(6, 2).double())
    layer.update_(torch.full((3, 6), float("nan"), dtype=torch.float64))
    assert torch.equal(layer.R, torch.eye(6, dtype=torch.float64)) and bool(layer.unstable)


@pytest.mark.parametrize(
    "make",
    [lambda n: Backpropagation(n, cross_entropy), lambda n: NodePerturbation(n, cross_entropy)],
)
def test_estimators_update_R_from_the_reference_pass(make) -> None:
    net = decorrelate(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)))
    x, y = correlated(20).float(), torch.arange(20) % 3
    twin = decorrelated(nn.Linear(6, 4))
    twin.update_(x)
    make(net)(x, y)
    torch.testing.assert_close(net[0].R, twin.R)
    assert not torch.equal(net[2].R, torch.eye(4))


def test_the_given_system_is_left_alone_and_shared_layers_stay_shared() -> None:
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    copy = decorrelate(net)
    assert type(net[0]) is nn.Linear and copy[0] is copy[2]
    assert [name for name, _ in decorrelations(copy)] == ["0"]
    assert copy[0].layer.weight is not net[0].weight


def test_other_rows_at_every_update() -> None:
    """Sequences and pictures: an update sees a sample of them, the next one another."""
    for layer, shape in ((nn.Linear(1, 2), (50, 40, 1)), (nn.Conv2d(1, 2, 1), (50, 1, 5, 8))):
        module = decorrelated(layer)
        raw = torch.arange(2000.0).reshape(shape)
        seen = []
        for _ in range(10):
            seen.append(module.sample(raw).flatten())
            module.updates += 1
        assert not torch.equal(seen[0], seen[1])
        assert len(torch.cat(seen).unique()) > 200


def test_a_batch_of_nan_spoils_neither_R_nor_the_mean() -> None:
    layer = decorrelated(nn.Linear(6, 2).double(), demean=True)
    layer.update_(correlated(20))
    before = layer.mean.clone()
    layer.update_(torch.full((3, 6), float("nan"), dtype=torch.float64))
    assert torch.equal(layer.mean, before)


def test_frozen_layers_are_left_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    assert [name for name, _ in decorrelations(decorrelate(net))] == ["1"]


def test_a_decorrelated_layer_that_is_not_called_is_named() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)
            self.unused = nn.Linear(6, 3)

        def forward(self, x):
            return self.layer(x)

    with pytest.raises(SystemRefused, match="'unused': never called"):
        Backpropagation(decorrelate(Listed()), cross_entropy)(
            torch.randn(2, 6), torch.tensor([0, 1])
        )


def test_what_cannot_be_decorrelated_is_refused() -> None:
    with pytest.raises(SystemRefused, match="Conv1d"):
        decorrelated(nn.Conv1d(2, 2, 3))
    with pytest.raises(SystemRefused, match="nothing to decorrelate"):
        decorrelate(nn.Sequential(nn.Conv1d(2, 2, 3)))
    with pytest.raises(ValueError, match="negative"):
        decorrelated(nn.Linear(2, 2), rate=-1.0)
    with pytest.raises(ValueError, match="did you mean 'offdiag'"):
        decorrelated(nn.Linear(2, 2), variant="ofdiag")


def test_a_layers_own_forward_and_its_device_are_kept() -> None:
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    x = torch.randn(4, 2, 5, 5)
    for layer in (Doubled(2, 3, 3), Noisy(Doubled(2, 3, 3), nn.Hardtanh())):
        net = decorrelate(nn.Sequential(layer))
        torch.testing.assert_close(net(x), layer(x))
        net[0].R.mul_(2)
        assert not torch.allclose(net(x), layer(x))
