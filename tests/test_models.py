"""Reference networks: their shapes, and credit through them, for every family of units."""

import pytest
import torch
from torch import nn

from noisynets import Backpropagation, NodePerturbation
from noisynets.core.errors import InputError
from noisynets.core.losses import cross_entropy
from noisynets.systems.catalogue import ARCHITECTURES, FAMILIES, SYSTEMS
from noisynets.systems.models import gpt, lenet, resnet, vgg
from noisynets.systems.settings import NetworkSettings


def test_lenet_has_the_published_size() -> None:
    """61,706 parameters; and 24 × 16 × 120, as the second convolution is padded: 7×7, not 5×5."""
    net = lenet((1, 28, 28), 10, NetworkSettings(hidden=(6, 16, 120, 84)))
    assert sum(p.numel() for p in net.parameters()) == 61_706 + 24 * 16 * 120


@pytest.mark.parametrize("system", [name for name, kind in SYSTEMS.items() if not kind.text])
def test_every_system_maps_small_and_odd_pictures(system: str) -> None:
    kind = SYSTEMS[system]
    shapes = ((3, 9, 7), (1, 4, 4), (2, 1, 1))
    for shape in shapes[:1] if kind.boxed else shapes:  # a box may start a process for each
        net = kind.build(shape, 5, NetworkSettings(hidden=(3, 4, 5), steps=2))
        x = torch.randn(2, 1, *shape) if kind.spiking else torch.randn(2, *shape)
        assert net(x).shape == (2, 5)


def test_residual_branches_do_not_make_activities_grow() -> None:
    """Mean squares of the last activities, 2 and 8 blocks deep."""
    torch.manual_seed(0)
    sizes = []
    for blocks in (2, 8):
        build = NetworkSettings(hidden=(16,) * blocks)
        net = resnet((3, 64, 64), 10, build)
        seen = []
        net[-4].register_forward_hook(lambda m, args, out, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            net(torch.randn(4, 3, 64, 64))
        sizes.append(float(seen[0].square().mean()))
    assert 0.1 < sizes[1] / sizes[0] < 2  # zeros around small pictures take some away


@pytest.mark.parametrize(
    ("init", "table", "layer"),
    [
        ("lecun", 1.0, 128**-0.5),
        ("he", 1.0, (2 / 128) ** 0.5),
        ("xavier", (2 / 129) ** 0.5, 128**-0.5),
        ("gpt2", 0.02, 0.02),
    ],
)
def test_initial_weights_have_the_published_deviations(init, table, layer) -> None:
    net = gpt((64,), 400, NetworkSettings(layers=1, width=128, heads=4, init=init))
    found = {name: float(p.detach().std()) for name, p in net.named_parameters() if p.dim() > 1}
    assert found["0.weight"] == pytest.approx(table, rel=0.02)
    assert found["2.attention.q.weight"] == pytest.approx(layer, rel=0.02)


def test_pictures_are_needed() -> None:
    for build in (lenet, vgg, resnet):
        with pytest.raises(InputError, match="needs pictures"):
            build((7,), 3, NetworkSettings(hidden=(4,)))


@pytest.mark.parametrize("architecture", ["conv", "lenet", "vgg", "resnet"])
def test_mirrored_credit_goes_through_every_architecture(architecture: str) -> None:
    """After 60 pairs, without a warning, cosine with the gradient above 0.9 in every layer."""
    torch.manual_seed(0)
    kind = SYSTEMS[architecture]
    net = kind.build((1, 8, 8), 3, NetworkSettings(hidden=(4, 6), slope=0.1))
    estimator = NodePerturbation(net, cross_entropy, "mirrored", sigma=0.01)
    x, y = torch.randn(50, 1, 8, 8), torch.arange(50) % 3
    for _ in range(60):
        net.zero_grad()
        estimator(x, y)
    found = [p.grad.clone() for p in net.parameters() if p.dim() > 1]
    net.zero_grad()
    Backpropagation(net, cross_entropy)(x, y)
    true = [p.grad for p in net.parameters() if p.dim() > 1]
    for a, b in zip(found, true, strict=True):
        assert torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_on_every_architecture(family: str) -> None:
    """Mirrored credit lowers the loss on one batch by a fifth, in at most 200 steps.

    Narrow stacks of random units take 50 to 80 steps, by the seed; all others about 10.
    """
    for architecture, kind in ARCHITECTURES.items():
        if kind.acts or kind.text:  # tests/test_text.py has those of texts
            continue
        name = "-".join(part for part in (family, architecture) if part).replace("lif-mlp", "lif")
        if name not in SYSTEMS:
            assert family == "rlif" or (kind.spiking is None and FAMILIES[family].spiking)
            continue
        torch.manual_seed(0)
        kind = SYSTEMS[name]
        widths = (8, 8, 16, 16)[: len(kind.hidden)]
        net = kind.build((1, 6, 6), 3, _settings(kind, widths))
        estimator = NodePerturbation(
            net, cross_entropy, "mirrored", sigma=None if kind.intrinsic_noise else 0.1
        )
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        y = torch.arange(30) % 3
        x = torch.randn(3, 1, 6, 6)[y] + 0.1 * torch.randn(30, 1, 6, 6)
        x = x.unsqueeze(1) if kind.spiking else x
        losses: list[float] = []
        while len(losses) < 10 or sum(losses[-5:]) > 0.8 * sum(losses[:5]):
            assert len(losses) < 200, f"{name}: {losses[::20]}"
            optimiser.zero_grad()
            losses.append(float(estimator(x, y).loss.mean()))
            optimiser.step()


def _settings(kind, widths: tuple[int, ...]) -> NetworkSettings:
    return NetworkSettings(
        hidden=widths,
        steps=5 if kind.spiking else None,
        intrinsic_noise=kind.intrinsic_noise,
        device_preset=kind.device_preset,
        layers=1,
        width=16,
        heads=2,
    )


def test_freezing_leaves_the_last_layer_alone() -> None:
    for name in ("lenet", "resnet", "vgg"):
        net = SYSTEMS[name].build((1, 8, 8), 3, NetworkSettings(hidden=(4, 6), freeze_hidden=True))
        trained = [p for p in net.parameters() if p.requires_grad]
        assert [p.shape[0] for p in trained] == [3, 3] and isinstance(net[-1], nn.Linear)
