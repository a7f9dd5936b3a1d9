"""Equal seeds give equal bits; each seed makes a difference of its own, wherever it is used."""

from pathlib import Path

import pytest
import torch
from cases import flat, gradients
from tiny import config, run, same, tiny_task
from torch import nn

from noisynets import AdditiveGaussian, NodePerturbation, Noisy, cross_entropy
from noisynets.core.losses import negative_return
from noisynets.estimators.methods import METHODS
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.run.checkpoint import load_state
from noisynets.run.evaluate import evaluate_outputs
from noisynets.run.session import build
from noisynets.run.settings import Config, seeds
from noisynets.tasks.data import Examples
from noisynets.tasks.environments import Episodes

LIF = {"system": "lif", "steps": 3, "hidden": (6,)}
YIN_YANG = LIF | {"task": "yinyang", "batch_size": 500}
BOX = {"system": "numpy-box"}
MODELLED = [name for name, method in METHODS.items() if method.needs_model]
EXACT = ("bp", "dbp", "frozen")
"""What these rules train, they train by the exact gradient."""
USES = [
    ("weights", {}),
    ("weights", {"rule": "bp"}),
    ("order", {}),
    ("order", {"rule": "bp"}),
    ("system", {"system": "noisy-mlp"}),
    ("system", {"system": "bernoulli-mlp"}),
    ("system", {"system": "analog-mlp", "rule": "anp"}),
    ("system", LIF | {"firing": "escape"}),
    ("system", LIF | {"membrane_noise": 0.1}),
    ("system", BOX),
    ("encoding", YIN_YANG | {"encoder": "rate"}),
    ("encoding", YIN_YANG | {"encoder": "rate", "rule": "bp"}),
    ("augmentation", {"augment": "crop"}),
    ("augmentation", {"augment": "flip", "rule": "bp"}),
    *[("injection", {"rule": name}) for name in METHODS if name not in (*MODELLED, *EXACT)],
    *[("injection", BOX | {"rule": rule}) for rule in ("aware", "robust")],
    ("injection", {"system": "noisy-mlp", "rule": "dfa", "sigma": None}),
    ("injection", {"system": "noisy-mlp", "rule": "fa", "sigma": None}),
]
"""(a seed, settings of a run that must depend on it)"""

IGNORES = [
    *[("injection", {"rule": name}) for name in EXACT],
    *[("injection", BOX | {"rule": r}) for r in MODELLED if r not in ("aware", "robust")],
    ("system", {}),
    ("encoding", YIN_YANG | {"encoder": "latency"}),
    ("augmentation", {}),
]
"""(a seed, settings of a run that must not depend on it)"""


def named(case: object) -> str:
    return "-".join(map(str, case.values())) if isinstance(case, dict) else str(case)


def trained(path: Path, monkeypatch, changed: str, by: int, settings: dict) -> dict:
    """The final system of a short run in which one of the run's seeds is another one."""

    def replaced(config: Config) -> dict[str, int]:
        found = seeds(config)
        assert changed in found
        return found | {changed: found[changed] + by}

    for module in ("session", "train", "evaluate", "settings.settings"):
        monkeypatch.setattr(f"noisynets.run.{module}.seeds", replaced)
    folder = run(path, **{"epochs": 1, "batch_size": 50} | settings)
    return load_state(folder.checkpoint)["system"]


@pytest.mark.parametrize(("seed", "settings"), USES, ids=named)
def test_another_seed_gives_other_bits(seed: str, settings: dict, tmp_path, monkeypatch) -> None:
    first, again, other = (
        trained(tmp_path / str(i), monkeypatch, seed, by, settings)
        for i, by in enumerate((0, 0, 1000))
    )
    assert same(first, again)
    assert not same(weights(first), weights(other))


@pytest.mark.parametrize(("seed", "settings"), IGNORES, ids=named)
def test_other_seeds_change_nothing(seed: str, settings: dict, tmp_path, monkeypatch) -> None:
    first, other = (
        trained(tmp_path / str(by), monkeypatch, seed, by, settings) for by in (0, 1000)
    )
    assert same(first, other)


def weights(state: dict) -> list[torch.Tensor]:
    """All floating-point tensors; a stream of random numbers is saved as bytes."""
    return [value for value in state.values() if value.is_floating_point()]


def test_the_seeds_of_a_run_are_all_different() -> None:
    found = [seed for n in range(3) for seed in seeds(config(seed=n)).values()]
    assert len(set(found)) == len(found) == 18


@pytest.mark.parametrize("rule", ["np", "mirrored"])
def test_an_estimators_seed_decides_its_noise(rule: str) -> None:
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        estimator = NodePerturbation(net, cross_entropy, rule, sigma=0.1, seed=seed)
        estimator(torch.rand(8, 6), torch.arange(8) % 4)
        found.append(flat(gradients(net)))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("rule", ["dfa", "fa"])
def test_random_feedback_comes_from_the_seed_alone(rule: str) -> None:
    """In the system's own noise nothing is injected, so that the seed decides the maps alone."""
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(0)
        net = nn.Sequential(
            Noisy(nn.Linear(6, 5), AdditiveGaussian(0.1, seed=1)),
            nn.Tanh(),
            Noisy(nn.Linear(5, 4), AdditiveGaussian(0.1, seed=2)),
        )
        estimator = NodePerturbation(net, cross_entropy, rule, sigma=None, seed=seed)
        estimator(torch.rand(8, 6), torch.arange(8) % 4)
        found.append(gradients(net))
    assert same(found[0], found[1])
    hidden = [flat({"weight": grads["0.layer.weight"]}) for grads in found]
    assert not torch.equal(hidden[0], hidden[2])
    assert torch.equal(found[0]["2.layer.bias"], found[2]["2.layer.bias"])


@pytest.mark.parametrize("system", ["analog-mlp", "numpy-box"])
def test_the_seed_of_a_chip_decides_its_devices(system: str) -> None:
    x = torch.rand(5, 1, 4, 4)
    sessions = [build(config(system=system, device_seed=seed)) for seed in (1, 1, 2)]
    with torch.no_grad():
        first, again, other = (session.system(x) for session in sessions)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_seed_decides_the_encoding_of_an_evaluation(monkeypatch) -> None:
    session = build(config(**LIF, encoder="rate"))
    examples = tiny_task("test", None)
    examples = Examples(examples.x.abs(), examples.y)
    found = []
    for seed in (3, 3, 4):
        monkeypatch.setattr("noisynets.run.evaluate.seeds", lambda c, seed=seed: {"encoding": seed})
        found.append(evaluate_outputs(session, examples))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("estimator", [RollOutPerturbation, RollOutFeedback])
def test_another_seed_gives_other_roll_outs(estimator: type) -> None:
    system = Episodes(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), "CartPole-v1")
    found = [
        estimator(system, negative_return, seed=seed).injection((5,), torch.zeros(()))
        for seed in (3, 3, 4)
    ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
