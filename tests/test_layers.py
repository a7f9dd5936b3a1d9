"""Networks with every kind of layer: embeddings, normalisations, convolutions of any kind."""

import io

import pytest
import torch
from cases import cosine, gradients
from exact_np import wrong
from torch import Tensor, nn

from noisynets import RULES, NodePerturbation, SystemRefused, squared_error
from noisynets.core.check import check
from noisynets.core.outer import accumulate_
from noisynets.systems.devices import AdditiveGaussian, Noisy
from noisynets.systems.spiking import Spiking
from noisynets.systems.spiking.neurons import Leaky
from noisynets.systems.spiking.readouts import MeanMembrane


def _still(norm: nn.Module) -> nn.Module:
    """A normalisation in evaluation mode, whose running statistics are not those of its inputs."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return norm.eval()


def _head(*layers: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.Linear(width, 2))


NETS = {
    "embedding": lambda: _head(nn.Embedding(5, 3, padding_idx=1), nn.Linear(3, 2), width=6),
    "transposed": lambda: _head(nn.ConvTranspose2d(2, 2, 2, stride=2, groups=2), width=32),
    "transposed 1d": lambda: _head(
        nn.Linear(4, 4), nn.ConvTranspose1d(2, 2, 3, 2, padding=1, output_padding=1), width=16
    ),
    "conv3d": lambda: _head(nn.Conv3d(1, 2, 2), width=16),
    "separable": lambda: _head(
        nn.Conv2d(2, 2, 3, groups=2, padding="same"),
        nn.Conv2d(2, 2, 1, padding=1, padding_mode="circular"),
        nn.GroupNorm(1, 2),
        width=50,
    ),
    "rms norm": lambda: _head(nn.Linear(4, 4), nn.RMSNorm(4), width=4),
    "instance norm": lambda: _head(nn.Conv1d(2, 2, 3), nn.InstanceNorm1d(2, affine=True), width=8),
    "batch norm": lambda: _head(nn.Linear(4, 4), _still(nn.BatchNorm1d(4)), width=4),
    "batch norm first": lambda: _head(_still(nn.BatchNorm2d(2)), width=8),
}
SHAPES = {
    "transposed": (2, 2, 2),
    "transposed 1d": (2, 4),
    "conv3d": (1, 3, 3, 3),
    "separable": (2, 3, 3),
    "instance norm": (2, 6),
    "batch norm first": (2, 2, 2),
}


def _batch(name: str, rows: int) -> tuple[Tensor, Tensor]:
    y = torch.randn(rows, 2, dtype=torch.float64)
    if name == "embedding":
        return torch.randint(5, (rows, 3)), y
    return torch.randn(rows, *SHAPES.get(name, (4,)), dtype=torch.float64), y


@pytest.mark.parametrize("name", NETS)
def test_np_is_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    assert not wrong(NETS[name]().double(), squared_error, *_batch(name, 2))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rule", [rule for rule, entry in RULES.items() if entry.sends_error])
def test_every_feedback_rule_passes_and_resumes(name: str, rule: str) -> None:
    """No layer falls back to learned credit, and a restored estimator goes on with equal bits."""
    torch.manual_seed(0)
    net = NETS[name]().double()
    estimator = NodePerturbation(net, squared_error, rule)
    for _ in range(2):
        estimator(*_batch(name, 6))
    assert not estimator.fallbacks
    file = io.BytesIO()
    torch.save(estimator.state(), file)
    file.seek(0)
    other = NodePerturbation(net, squared_error, rule)
    other.restore(torch.load(file))
    batch, found = _batch(name, 6), []
    for one in (estimator, other):
        net.zero_grad()
        one(*batch)
        found.append(gradients(net))
    assert all(torch.equal(g, found[1][key]) for key, g in found[0].items())


def _texts() -> nn.Sequential:
    layers = nn.Embedding(8, 10), nn.LayerNorm(10), nn.Linear(10, 12)
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))


def _separable() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.GroupNorm(2, 4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)),
    )


def _decoder() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(4, 18), nn.Unflatten(1, (2, 3, 3)), _still(nn.BatchNorm2d(2)), nn.Tanh()),
        *(nn.ConvTranspose2d(2, 3, 3, 2, groups=1), nn.InstanceNorm2d(3, affine=True), nn.Tanh()),
        *(nn.Conv2d(3, 3, 3, padding="same", padding_mode="circular"), nn.Flatten()),
        nn.Linear(147, 3),
    )


def _drawn(name: str, generator: torch.Generator) -> Tensor:
    if name == "texts":
        return torch.randint(8, (40, 3), generator=generator)
    shape = {"separable": (2, 4, 4), "decoder": (4,)}[name]
    return torch.randn(40, *shape, generator=generator)


@pytest.mark.parametrize("name", ["texts", "separable", "decoder"])
def test_mirrored_credit_becomes_the_gradient(name: str) -> None:
    """Fixed weights and gains that are not 1, at most 300 pairs: cosine of weights above 0.95."""
    torch.manual_seed(0)
    net = {"texts": _texts, "separable": _separable, "decoder": _decoder}[name]()
    for key, p in net.named_parameters():
        if p.dim() == 1 and key.endswith("weight"):
            nn.init.uniform_(p, 0.5, 1.5)
    estimator = NodePerturbation(net, squared_error, "mirrored")
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(200, 3, generator=generator)
    for _ in range(120 if name == "decoder" else 300):
        x = _drawn(name, generator)
        flat = x.float().flatten(1)
        y = torch.tanh(0.3 * flat @ teacher[: flat.shape[1]])
        net.zero_grad()
        estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    true = gradients(net)
    weights = {key: cosine(found[key], true[key]) for key in true if key.endswith("weight")}
    assert min(weights.values()) >= 0.95, weights
    assert not estimator.notes


def test_an_embedding_is_trained_through_the_devices_noise() -> None:
    """Nothing is injected: the table has noise of its own, as every layer behind it."""
    torch.manual_seed(0)
    net = _texts()
    for i, noise in ((0, 0.2), (2, 0.1), (5, 0.02)):
        net[i] = Noisy(net[i], AdditiveGaussian(noise, seed=i))
    del net[1]
    estimator = NodePerturbation(net, squared_error, "mirrored", sigma=None)
    for _ in range(200):
        x = torch.randint(8, (40, 3))
        net.zero_grad()
        estimator(x, torch.tanh(x.float()))
    found = gradients(net)
    squared_error(net(x), torch.tanh(x.float())).mean().backward()
    assert cosine(found["0.layer.weight"], gradients(net)["0.layer.weight"]) > 0.9


def test_products_in_bfloat16_leave_integers_as_they_are() -> None:
    layer, x = nn.Embedding(300, 4), torch.tensor([[257, 299], [258, 0]])
    accumulate_(layer, x, torch.ones(2, 2, 4), torch.bfloat16)
    assert layer.weight.grad.any(1).nonzero().flatten().tolist() == [0, 257, 258, 299]


@pytest.mark.parametrize("setting", ["max_norm", "scale_grad_by_freq", "sparse"])
def test_settings_that_no_rule_follows_are_refused(setting: str) -> None:
    layer = nn.Embedding(3, 2, **{setting: 1.0 if setting == "max_norm" else True})
    with pytest.raises(SystemRefused, match=f"'0' .Embedding.: has {setting}"):
        check(nn.Sequential(layer, nn.Linear(2, 2)))
    layer.requires_grad_(False)
    assert [node.name for node in check(nn.Sequential(layer, nn.Linear(2, 2)))] == ["1"]


def test_a_batch_norm_in_evaluation_mode_is_a_node_if_it_is_trained() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2).eval())
    assert [node.name for node in check(net)] == ["0", "1"]
    net[1].requires_grad_(False)
    assert [node.name for node in check(net)] == ["0"]


def _spiking() -> Spiking:
    layers = nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 6), Leaky(0.9), nn.Linear(6, 2)
    return Spiking(nn.Sequential(*layers), steps=4, readout=MeanMembrane(0.8))


def test_an_embedding_is_trained_over_a_trial_while_its_inputs_stay_the_same() -> None:
    torch.manual_seed(0)
    net = _spiking()
    estimator = NodePerturbation(net, squared_error, "mirrored")
    nn.init.normal_(net.network[2].weight)
    for _ in range(20):
        estimator(torch.tensor([[[0, 2]], [[2, 4]]] * 20), torch.randn(40, 2))
    touched = net.network[0].weight.grad.any(1)
    assert touched.nonzero().flatten().tolist() == [0, 2, 4]
    with pytest.raises(SystemRefused, match="'network.0': its integer inputs change from step"):
        estimator(torch.randint(5, (2, 4, 2)), torch.randn(2, 2))


def test_numbers_of_rows_may_come_from_activities() -> None:
    """argmax has no derivative: what lies before it alone gets learned credit, with a warning."""

    class Nearest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask, self.table, self.tell = nn.Linear(3, 5), nn.Embedding(5, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.tell(self.table(self.ask(x).argmax(-1)))

    torch.manual_seed(0)
    net, x, y = Nearest(), torch.randn(20, 3), torch.randn(20, 2)
    estimator = NodePerturbation(net, squared_error, "mirrored")
    with pytest.warns(UserWarning, match="'ask': what lies behind"):
        for _ in range(60):
            net.zero_grad()
            estimator(x, y)
    found = gradients(net)
    squared_error(net(x), y).mean().backward()
    assert cosine(found["table.weight"], net.table.weight.grad) > 0.99
    assert tuple(estimator.fallbacks) == ("ask",)


@pytest.mark.parametrize("rule", ["mirrored", "kolen-pollack", "fa"])
def test_small_floats_do(rule: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, groups=2, padding=1), nn.GroupNorm(2, 4), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 2, 2, stride=2), nn.BatchNorm2d(2).eval(), nn.Flatten()),
        nn.Linear(32, 2),
    ).bfloat16()
    estimator = NodePerturbation(net, squared_error, rule, sigma=0.5, resamples=2)
    for _ in range(3):
        estimator(torch.randn(6, 2, 2, 2).bfloat16(), torch.randn(6, 2).bfloat16())
    assert all(p.grad.isfinite().all() for p in net.parameters())
