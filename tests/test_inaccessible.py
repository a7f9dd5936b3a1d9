"""The system's noise can be neither read nor told from another of equal statistics."""

import gc
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest
import torch
from tiny import config
from torch import nn

import noisynets
from noisynets import AdditiveGaussian, Effect, NodePerturbation, Noisy, squared_error
from noisynets.core.noise import Source, Stream
from noisynets.run.session import build
from noisynets.systems.devices import Telegraph
from noisynets.systems.units import Bernoulli, Sign

PACKAGE = Path(noisynets.__file__).parent
SYSTEMS = [
    {"system": "noisy-mlp"},
    {"system": "sign-mlp"},
    {"system": "bernoulli-mlp"},
    {"system": "analog-mlp"},
    {"system": "analog-mlp", "device_preset": "mtj", "rule": "danp"},
    {"system": "noisy-lif", "firing": "escape", "rule": "mirrored"},
]
EACH = pytest.mark.parametrize("settings", SYSTEMS, ids=lambda s: "-".join(s.values()))


def batch(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 1, 4, 4, generator=generator)
    return x, x.flatten(1)[:, :3].argmax(1)


def within_reach(start: object) -> list[object]:
    """Streams and generators that `start` holds, also in closures, but not those in modules."""
    found, seen, left = [], set(), [start]
    while left:
        thing = left.pop()
        if id(thing) in seen or isinstance(thing, nn.Module | type | ModuleType):
            continue
        seen.add(id(thing))
        if isinstance(thing, FunctionType):  # what it closes over, not the module it stands in
            left += thing.__closure__ or ()
            continue
        if isinstance(thing, Stream | torch.Generator):
            found.append(thing)
        left += gc.get_referents(thing)
    return found


@EACH
def test_no_rule_probe_or_loop_holds_the_systems_generator(settings) -> None:
    session = build(config(**settings))
    session.step_(*batch(), done=0.0)
    session.encoding = None  # what an input is turned into spikes with is ours
    assert [m for m in session.system.modules() if isinstance(m, Source)]
    assert within_reach(session) == []
    (source, *_) = (m for m in session.system.modules() if isinstance(m, Source))
    assert within_reach([source.normal])  # the search would find it
    injecting = build(config(**settings | {"sigma": 0.5}))
    assert within_reach(injecting)  # what we inject ourselves is ours


@EACH
def test_noise_is_drawn_only_while_the_system_computes(settings, monkeypatch) -> None:
    session = build(config(**settings))
    computing, drawn, on = [False], [], Stream.on
    session.encoding = None
    session.system.register_forward_pre_hook(lambda *_: computing.__setitem__(0, True))
    session.system.register_forward_hook(lambda *_: computing.__setitem__(0, False))
    monkeypatch.setattr(Stream, "on", lambda self, dev: drawn.append(computing[0]) or on(self, dev))
    for _ in range(3):
        session.step_(*batch(), done=0.0)
    assert drawn and all(drawn)


@pytest.mark.parametrize("noise", [AdditiveGaussian(0.3, 2), Telegraph(seed=2), Bernoulli(seed=2)])
def test_reading_the_source_raises(noise) -> None:
    noise(torch.ones(3, 2))
    source = noise.source
    for name in ("generator", "stream", "_stream", "_Source__stream", "seed", "_seed"):
        with pytest.raises(AttributeError):
            getattr(source, name)
    held = [v for v in vars(source).values() if isinstance(v, Stream | torch.Generator)]
    assert held == []  # only functions that draw, save and restore


class Elsewhere(Effect):
    """Gaussian noise of NumPy's, of σ 0.3."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def forward(self, a: torch.Tensor) -> torch.Tensor:
        return a + torch.from_numpy(0.3 * self.random.standard_normal(a.shape)).to(a)


def functions_called(effects: list[nn.Module], rule: str) -> list[tuple[str, str]]:
    """Every function of the package that a step enters, outside of the effects, in order.

    Without the verification of the first batch, which silences the noise that a system declares.
    """
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), Noisy(nn.Linear(16, 8), effects[0]), Sign(), nn.Linear(8, 3), effects[1]
    )
    estimator = NodePerturbation(net, squared_error, rule, sigma=None, verify=False)
    x, _ = batch()
    called = []

    def trace(frame, event, argument) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in file.parents:
            called.append((str(file.relative_to(PACKAGE)), frame.f_code.co_name))

    sys.setprofile(trace)
    try:
        estimator(x, torch.ones(20, 3))
    finally:
        sys.setprofile(None)
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())
    own = ("systems/devices/gaussian.py", "core/noise.py")  # the source itself
    return [call for call in called if call[0] not in own]


def test_another_source_of_equal_statistics_changes_no_code_path() -> None:
    ours = functions_called([AdditiveGaussian(0.3, 1), AdditiveGaussian(0.3, 2)], "anp")
    other = functions_called([Elsewhere(1), Elsewhere(2)], "anp")
    assert ours == other and len(ours) > 20


def test_nothing_depends_on_which_system_is_trained() -> None:
    """Core, rules, estimators of nodes and the loop name no device, unit or source."""
    rules = [*PACKAGE.glob("rules/**/*.py"), *PACKAGE.glob("core/**/*.py")]
    assert len(rules) >= 40
    estimators = PACKAGE.glob("estimators/*roll_out*.py")
    node_perturbation = PACKAGE / "estimators" / "node_perturbation.py"
    for file in (*rules, *estimators, node_perturbation, PACKAGE / "run" / "train.py"):
        for word in ("import Source", "noisynets.systems.devices", "noisynets.systems.units"):
            assert word not in file.read_text(), f"{file.name}: {word}"
