"""Stopped, killed and continued: the bits are the same."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import final, interrupted, run, same
from torch import nn

from noisynets.estimators.methods import METHODS
from noisynets.run.folder import RunFolder
from noisynets.systems.catalogue import BOXES, System
from noisynets.systems.devices import PCM, Coloured, Noisy, Telegraph

CASES = [
    *[{"rule": rule, "system": "numpy-box"} for rule in ("mirrored", "spsa")],
    *[{"rule": m.name, "system": "numpy-box"} for m in METHODS.values() if m.needs_model],
    {"system": "noisy-mlp"},
    {"system": "conv", "hidden": (4, 6), "rule": "danp", "demean": True},
    {"system": "conv", "hidden": (4,), "intrinsic_noise": 0.1, "rule": "danp"},
    {"system": "bernoulli-mlp"},
    {"system": "analog-mlp", "rule": "danp"},
    {"system": "sign-mlp", "device_preset": "mtj", "rule": "anp"},
    {"system": "slow-device"},
    {"system": "conv", "hidden": (4,), "rule": "anp", "augment": "crop-flip", "standardise": True},
    {
        "task": "yinyang",
        "system": "noisy-lif",
        "steps": 4,
        "encoder": "rate",
        "firing": "escape",
        "batch_size": 500,
    },
    {"system": "lif", "steps": 4, "dtype": "bfloat16", "rule": "dfa"},
    {"system": "rlif", "steps": 4, "credit_over": "steps", "neuron": "synaptic"},
    {"system": "noisy-lif", "steps": 4, "noise_over": "trial", "rule": "anp"},
    {"rule": "anp", "resamples": 3, "noise": "rademacher", "optimiser": "sgd", "dtype": "float64"},
]


def slow_device(shape, outputs, build) -> nn.Module:
    """Everything that has a state in time: telegraph, 1/f noise, a drift clock, what is written."""
    drifting = PCM(per_call=40.0, device_seed=1, seed=2)
    first = Noisy(nn.Linear(16, 8), drifting, Telegraph(0.3, seed=3), seed=4)
    layers = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(8, 3), Coloured(0.3, seed=5))
    generator = torch.Generator().manual_seed(build.weight_seed)
    with torch.no_grad():
        for p in layers.parameters():
            p.normal_(0, 0.3, generator=generator)
    return layers


@pytest.fixture(autouse=True)
def _slow_device(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System("slow-device", "for tests", slow_device, (8,), intrinsic_noise=0.1)
    monkeypatch.setitem(BOXES, "slow-device", system)


@pytest.mark.parametrize("settings", CASES, ids=lambda s: "-".join(map(str, s.values())))
def test_an_interrupted_run_ends_with_the_same_bits(settings, tmp_path, monkeypatch) -> None:
    """Stopped in mid-epoch at random steps; `test_battery` does so with every rule."""
    whole = run(tmp_path / "whole", **settings)
    folder = interrupted(tmp_path / "broken", monkeypatch, settings, stops=4)
    assert same(final(whole), final(folder))
    assert folder.summary()["test_accuracy"] == whole.summary()["test_accuracy"]


def test_killed_at_any_moment_and_resumed_the_bits_are_the_same(tmp_path: Path) -> None:
    """SIGKILL, three times, at random moments of real runs on MNIST."""
    settings = "--epochs 3 --batch-size 100 --train-examples 10000 --hidden 16 --threads 1".split()
    command = [sys.executable, "-m", "noisynets.cli"]
    start = time.perf_counter()
    subprocess.run(
        [*command, "train", *settings, "--out", str(tmp_path / "whole")],
        check=True,
        capture_output=True,
    )
    duration = time.perf_counter() - start
    broken, kills = tmp_path / "broken", 0
    first = [*command, "train", *settings, "--out", str(broken)]
    while not (broken / "summary.json").exists():
        begun = (broken / "config.json").exists()
        again = [*command, "resume", str(broken)] if begun else first
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if kills < 3:
            time.sleep(random.uniform(0.3, 0.9) * duration)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
        else:
            _, error = process.communicate()
            assert process.returncode == 0, error
    assert same(final(RunFolder(tmp_path / "whole")), final(RunFolder(broken)))
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "broken"}
