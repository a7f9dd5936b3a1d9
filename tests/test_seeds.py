"""Equal seeds give equal bits; each seed makes a difference of its own, wherever it is used."""

import ast
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import flat, gradients
from tiny import config, run, same, tiny_task
from torch import nn

import noisynets
from noisynets import (
    AdditiveGaussian,
    Injection,
    InputError,
    NodePerturbation,
    Noisy,
    SystemRefused,
    check,
    cross_entropy,
)
from noisynets.core.losses import negative_return
from noisynets.core.noise import Source, Stream, generator
from noisynets.estimators.methods import METHODS
from noisynets.estimators.roll_out import RollOutPerturbation
from noisynets.estimators.roll_out_feedback import RollOutFeedback
from noisynets.rules.credit.direct_maps import RandomMap
from noisynets.rules.fa import RandomLayerMap
from noisynets.run.checkpoint import load_state
from noisynets.run.evaluate import evaluate_outputs
from noisynets.run.session import build
from noisynets.run.settings import Config, seeds
from noisynets.systems.devices import MultiplicativeGaussian, Shot, WeightNoise
from noisynets.systems.devices.pattern import Pattern
from noisynets.systems.units import Bernoulli
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


# --- equal seeds, different purposes -------------------------------------------------------------


def two_noisy_layers(seeds: tuple[int | None, int | None], sigma: float = 0.05) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        Noisy(nn.Linear(6, 8), AdditiveGaussian(sigma, seed=seeds[0])),
        nn.Tanh(),
        Noisy(nn.Linear(8, 3), AdditiveGaussian(sigma, seed=seeds[1])),
    )


def drawn(net: nn.Sequential, estimator: NodePerturbation) -> list[torch.Tensor]:
    """Numbers that each effect adds to zeros, and those of the injected noise."""
    a = torch.zeros(4000)
    return [net[0].effects[0](a), net[2].effects[0](a), estimator.injection((4000,), a)]


SEEDS_OF_EFFECTS = [(0, 1), (1, 0), (7, 8), (None, None)]


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("seeds", SEEDS_OF_EFFECTS, ids=str)
def test_an_estimator_and_effects_of_equal_seeds_are_independent(seeds, seed: int) -> None:
    """All correlations of 4,000 numbers are within 4.5 standard errors of 0, also of squares."""
    net = two_noisy_layers(seeds)
    found = torch.stack(drawn(net, NodePerturbation(net, cross_entropy, "np", seed=seed)))
    for z in (found, found.square()):
        off = torch.corrcoef(z.double()) - torch.eye(3)
        assert float(off.abs().max()) < 4.5 / 4000**0.5


@pytest.mark.parametrize("seeds", SEEDS_OF_EFFECTS, ids=str)
def test_injected_noise_beside_effects_of_equal_seeds_gives_the_gradient(seeds) -> None:
    """The mean estimate of each layer has cosine 0.98 with the gradient, and its norm."""
    net = two_noisy_layers(seeds)
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    estimator = NodePerturbation(net, cross_entropy, "np", sigma=0.05, resamples=100)
    estimates = 400
    for _ in range(estimates):
        estimator(x, y)
    layers = [net[0].layer, net[2].layer]
    found = [flat(gradients(layer)) / estimates for layer in layers]
    net.zero_grad()
    cross_entropy(nn.Sequential(layers[0], nn.Tanh(), layers[1])(x), y).mean().backward()
    for estimate, layer in zip(found, layers, strict=True):
        gradient = flat(gradients(layer))
        assert torch.cosine_similarity(estimate, gradient, 0) > 0.98
        assert float(estimate.norm() / gradient.norm()) == pytest.approx(1, abs=0.1)


COPIES = {
    "equal seeds": lambda: two_noisy_layers((0, 0)),
    "a copy": lambda: nn.Sequential(
        *[copy.deepcopy(m) for m in [Noisy(nn.Linear(3, 3), AdditiveGaussian(0.1)), nn.Tanh()] * 2]
    ),
    "weights": lambda: nn.Sequential(
        *[Noisy(nn.Linear(3, 3), WeightNoise(0.1), seed=4) for _ in range(2)]
    ),
    "units": lambda: nn.Sequential(
        nn.Linear(3, 3), Bernoulli(seed=2), nn.Linear(3, 3), Bernoulli(seed=2), nn.Linear(3, 2)
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_sources_that_draw_the_same_numbers_are_refused(name: str) -> None:
    """Naming both; also when the second was found by copying the first."""
    net = COPIES[name]()
    owners = [n.removesuffix(".source") for n, m in net.named_modules() if isinstance(m, Source)]
    assert len(owners) == 2
    with pytest.raises(SystemRefused, match="draw the same random numbers") as refused:
        NodePerturbation(net, cross_entropy)
    assert all(repr(owner) in str(refused.value) for owner in owners)


def test_one_source_at_two_places_and_other_kinds_of_noise_are_not_refused() -> None:
    unit = Bernoulli(seed=2)
    layers = [nn.Linear(3, 3) for _ in range(3)]
    check(nn.Sequential(layers[0], unit, layers[1], unit, layers[2]))
    check(Noisy(layers[0], Shot(9.0, 0), AdditiveGaussian(0.1, 0), MultiplicativeGaussian(0.1, 0)))


OWN_NOISE = [
    {"system": "noisy-mlp"},
    {"system": "analog-mlp"},
    {"system": "bernoulli-mlp"},
    {"system": "noisy-lif", "firing": "escape", "membrane_noise": 0.1},
    {"system": "rlif", "intrinsic_noise": 0.1, "firing": "escape", "membrane_noise": 0.1},
]


@pytest.mark.parametrize("settings", OWN_NOISE, ids=lambda s: s["system"])
def test_all_noise_of_a_system_of_the_command_line_is_independent(settings: dict) -> None:
    """No two of its sources have one origin, at 12 hidden layers as well."""
    session = build(config(hidden=(4,) * 12, rule="mirrored", **settings))
    origins = [m.origin for m in session.system.modules() if isinstance(m, Source)]
    assert len(set(origins)) == len(origins) >= 12


def test_patterns_of_one_chip_are_independent() -> None:
    a = torch.zeros(4000)
    found = [Pattern(3, purpose)(a) for purpose in ("gains", "offsets")] + [Source(3).normal(a)]
    off = torch.corrcoef(torch.stack(found)) - torch.eye(3)
    assert float(off.abs().max()) < 4.5 / 4000**0.5


def test_initial_weights_feedback_and_noise_of_equal_seeds_are_independent() -> None:
    """Also of numbers that PyTorch's own generators draw from that seed."""
    n = 4000
    layer = nn.Linear(40, 100)
    map_of = RandomLayerMap(layer, "0", seed=3)
    map_of.update_(torch.zeros(1, 40), torch.zeros(1, 1, 40), torch.zeros(1, 1, 100))
    assert map_of.map is not None
    found = [
        torch.randn(n, generator=torch.Generator().manual_seed(3)),
        torch.randn(n, generator=generator(3, "initial weights")),
        Injection(1.0, seed=3)((n,), torch.zeros(())),
        map_of.map.flatten(),
        RandomMap("0", seed=3)(torch.eye(40), 100).flatten(),
    ]
    off = torch.corrcoef(torch.stack(found)) - torch.eye(len(found))
    assert float(off.abs().max()) < 4.5 / n**0.5


def test_a_stream_saved_by_an_earlier_version_continues_with_its_bits() -> None:
    """Its state is that of a generator: how it was seeded no longer matters."""
    before = torch.Generator().manual_seed(3)
    torch.rand(7, generator=before)
    saved = torch.cat([torch.tensor([3]).view(torch.uint8), before.get_state()])
    noise, stream = AdditiveGaussian(1.0, seed=5), Stream(5, "injected noise")
    noise.source.set_extra_state(saved)
    stream.restore(before.get_state())
    a = torch.zeros(50)
    expected = torch.empty(50).normal_(generator=before)
    assert torch.equal(noise(a), expected)
    assert torch.equal(a.normal_(generator=stream.on(a.device)), expected)


@pytest.mark.parametrize("seed", [0.5, "1", None])
def test_a_seed_that_is_no_whole_number_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match="must be a whole number"):
        Injection(0.1, seed=seed)
    assert Stream(np.int64(3), "noise").on(torch.device("cpu")).initial_seed() == (
        Stream(3, "noise").on(torch.device("cpu")).initial_seed()
    )


UNSALTED = {
    "core/noise.py": "`generator` and `Stream`, which salt",
    "run/settings/settings.py": "SeedSequence is a hash; each part of a run has a place in it",
    "systems/devices/presets.py": "SeedSequence, of layers of a chip; their effects are salted",
    "systems/blackbox/tiles.py": "a chip of a number stays the same",
    "tasks/environments/episodes.py": "SeedSequence, of numbers of episodes",
    "tasks/data/events.py": "the split of a data set stays the same",
    "tasks/data/randman.py": "as above",
    "tasks/data/sarcos.py": "as above",
    "tasks/data/tonic_sets.py": "as above",
    "tasks/data/own.py": "as above",
    "tasks/data/task.py": "a part of the training examples stays the same",
    "tasks/data/yin_yang.py": "the authors' points",
    "bench/steps.py": "inputs and weights that are only timed",
    "bench/tracing.py": "weights that are only timed",
    "bench/networks/measure.py": "weights and batches that are only compared",
    "bench/networks/network.py": "as above",
    "core/verify/passes.py": "noise of passes that are undone",
    "core/drawing.py": "as above",
    "core/verify/verification.py": "as above",
    "core/verify/weights.py": "as above",
    "estimators/replay.py": "as above",
}
"""Files that seed a generator without a purpose, and why."""

GENERATORS = {"manual_seed", "default_rng", "RandomState", "SeedSequence", "SFC64"}


def test_every_generator_is_seeded_for_a_purpose() -> None:
    """By `generator`, `Stream` or `salted`; also in a file of a new name."""
    package, found = Path(noisynets.__file__).parent, set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                salts = "salted(" in ast.unparse(node)
                if node.func.attr in GENERATORS and not salts:
                    found.add(file.relative_to(package).as_posix())
    assert found == UNSALTED.keys()
