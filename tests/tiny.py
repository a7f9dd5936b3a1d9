"""A task small enough to train on in a test, and runs on it."""

import csv
import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import noisynets.run.loop as loop
from noisynets.run.checkpoint import load_state
from noisynets.run.folder import RunFolder, create
from noisynets.run.session import Session
from noisynets.run.settings import Config, resolve
from noisynets.run.train import train
from noisynets.tasks.data import Examples, Task


def tiny_task(part: str, folder: Path | None) -> Examples:
    """Which of three directions a 16-pixel picture points in, mostly."""
    generator = torch.Generator().manual_seed({"train": 1, "test": 2}[part])
    x = torch.randn(300, 1, 4, 4, generator=generator)
    return Examples(x, x.flatten(1)[:, :3].argmax(1))


def config(**settings) -> Config:
    base = Config(task="tiny", system="mlp", hidden=(8,), epochs=3, batch_size=20, device="cpu")
    return resolve(replace(base, **settings))


def run(path: Path, **settings) -> RunFolder:
    folder = create(path, config(**settings))
    train(folder, progress_bar=False)
    return folder


def metrics(folder: RunFolder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder.path / "metrics.csv").read_text().splitlines()))


def final(folder: RunFolder) -> tuple[dict, list]:
    """The final state, and the metrics without the seconds."""
    state = load_state(folder.checkpoint)
    rows = metrics(folder)
    return state, [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def interrupted(path: Path, patch: pytest.MonkeyPatch, settings: dict, stops: int) -> RunFolder:
    """A run that stops at random steps, and is continued; with a checkpoint at every guard."""
    patch.setattr(loop, "GUARD_STEPS", 5)
    patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    folder = create(path, config(**settings))
    step_, calls = Session.step_, itertools.count()
    failing = random.Random(str(settings)).sample(range(10 * folder.config().epochs), stops)

    def unreliable(self, *args):
        if next(calls) in failing:
            raise KeyboardInterrupt
        return step_(self, *args)

    patch.setattr(Session, "step_", unreliable)
    stopped = 0
    while folder.summary() is None:
        try:
            train(folder, progress_bar=False)
        except KeyboardInterrupt:
            stopped += 1
    assert stopped == stops
    return folder


TASK = Task("tiny", "for tests", (1, 4, 4), classes=3, load=tiny_task, validation=50)
