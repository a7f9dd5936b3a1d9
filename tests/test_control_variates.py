"""Control variates: unbiased, and with less variance than raw node perturbation."""

import pytest
import torch
import torch.nn.functional as F
from cases import TrueMap, cosine, gradients
from torch import Tensor, nn

from noisynets import RULES, Corrected, InputError, NodePerturbation
from noisynets.rules.credit.feedback import LayerwiseFeedback

F64 = torch.float64


def _variances(output_scale: float) -> dict[str, float]:
    """Mean square error of one estimate in the hidden layers, per rule; and its mean is right."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(10, 32),
        nn.LeakyReLU(0.01),
        nn.Linear(32, 32),
        nn.LeakyReLU(0.01),
        nn.Linear(32, 5),
    ).double()
    for layer, scale in ((net[0], 1), (net[2], 1), (net[4], output_scale)):
        nn.init.normal_(layer.weight, 0, scale * (2 / layer.in_features) ** 0.5)
    x, y = torch.randn(4, 10, dtype=F64), torch.randint(0, 5, (4,))

    def loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction="none")

    loss(net(x), y).mean().backward()
    true = torch.cat([g.flatten() for n, g in gradients(net).items() if n[0] != "4"])
    found = {}
    mirrored = Corrected(LayerwiseFeedback(lambda node: TrueMap(node.product)))
    rules = {name: name for name in ("np", "innovation", "share")}
    for name, rule in (
        rules | {"dfa": Corrected(RULES["dfa"].make(0)), "mirrored": mirrored}
    ).items():
        estimator = NodePerturbation(net, loss, rule, sigma=1e-4, resamples=100, seed=1)
        draws = []
        for _ in range(200):
            estimator(x, y)
            grads = gradients(net)
            draws.append(torch.cat([g.flatten() for n, g in grads.items() if n[0] != "4"]))
        drawn = torch.stack(draws)
        least = {"np": 0.9, "innovation": 0.9, "dfa": 0.5}.get(name, 0.99)  # as their noise is
        assert cosine(drawn.mean(0), true) > least, name
        spread = float((drawn - true).square().sum(1).mean())
        assert float((drawn.mean(0) - true).square().sum()) < 2 * spread / len(draws), name
        found[name] = spread * 100
    return found


def test_control_variates_are_unbiased_and_have_less_variance() -> None:
    """20,000 draws each. With a small output layer its noise dominates δL: taking its share out
    leaves 1/20 of NP's variance or less; with a plain He output layer, 1/1.2 or less."""
    small, plain = _variances(0.1), _variances(1.0)
    assert small["np"] / small["share"] > 20
    assert plain["np"] / plain["share"] > 1.2
    assert small["innovation"] / small["np"] == pytest.approx(1, abs=0.3)
    for found in (small, plain):  # what a feedback predicts of δL needs no measuring
        assert found["share"] / found["mirrored"] > 5


def test_a_correction_is_refused_where_it_means_nothing() -> None:
    with pytest.raises(InputError, match="within 0..1"):
        Corrected(RULES["dfa"].make(0), 1.5)
