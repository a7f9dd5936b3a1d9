"""`fit`: it learns, continues with the same bits, keeps the best, and equals a loop by hand."""

import csv
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from noisynets import (
    Backpropagation,
    Callback,
    Diverged,
    InputError,
    NodePerturbation,
    cross_entropy,
    fit,
)

X = torch.randn(90, 6, generator=torch.Generator().manual_seed(1))
Y = X[:, :3].argmax(1)
METRICS = {"accuracy": lambda output, y: output.argmax(1) == y}


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 3))


class Rows(Dataset):
    """Inputs in a dict, and random numbers of three generators in every item."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int):
        jitter = 0.1 * random.random() + 0.1 * float(np.random.rand()) + 0.1 * torch.rand(())
        return {"input": X[i] + jitter}, Y[i]


DATA = {
    "tensors": lambda: (X, Y),
    "tree": lambda: ({"input": X}, Y),
    "dataset": Rows,
    "loader": lambda: DataLoader(Rows(), batch_size=30, shuffle=True),
    "own generator": lambda: DataLoader(
        TensorDataset(X, Y), 30, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
}


def trained(data, **settings):
    random.seed(0)
    np.random.seed(0)
    model = network()
    base = {"epochs": 3, "batch_size": 30, "lr": 1e-2, "progress_bar": False}
    found = fit(model, data, cross_entropy, **(base | settings))
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in found.rows]
    return [p.detach().clone() for p in model.parameters()], rows


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step, self.number = step, signal.SIGINT

    def on_step(self, model, progress, estimate) -> None:
        if 3 * progress.epoch + progress.step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("data", DATA)
def test_a_stopped_run_continues_with_the_same_bits(data, step, tmp_path: Path) -> None:
    settings = {"validation": (X, Y), "metrics": METRICS}
    weights, rows = trained(DATA[data](), **settings)
    with pytest.raises(KeyboardInterrupt):
        trained(DATA[data](), out=tmp_path, callbacks=[Stop(step)], **settings)
    torch.rand(7), random.random(), np.random.rand()
    again, others = trained(DATA[data](), out=tmp_path, resume=True, **settings)
    assert all(map(torch.equal, weights, again)) and rows == others
    table = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [float(row["val_accuracy"]) for row in table] == [row["val_accuracy"] for row in rows]


@pytest.mark.parametrize("make", [Backpropagation, NodePerturbation])
def test_it_equals_a_loop_by_hand(make) -> None:
    one, other = network(), network()
    loader = DataLoader(TensorDataset(X, Y), 30)
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(one.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    estimator = make(one, cross_entropy)
    for _ in range(2):
        for x, y in loader:
            optimiser.zero_grad()
            estimator(x, y)
            optimiser.step()
        scheduler.step()
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(other.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.5)
    fit(
        other,
        loader,
        cross_entropy,
        rule=make(other, cross_entropy),
        optimiser=optimiser,
        scheduler=scheduler,
        epochs=2,
        progress_bar=False,
    )
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert optimiser.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize("rule", ["mirrored", "anp", "bp"])
def test_it_learns(rule) -> None:
    _, rows = trained((X, Y), rule=rule, epochs=40, metrics=METRICS)
    assert rows[-1]["train_accuracy"] > 0.8


def test_patience_ends_it_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    wrong = (X, (Y + 1) % 3)  # learning makes this worse
    seen = {}

    class Watch(Callback):
        def on_epoch(self, model, progress, row) -> None:
            seen[row["epoch"]] = [p.detach().clone() for p in model.parameters()]

    settings = {"validation": wrong, "patience": 2, "keep": "best", "out": tmp_path}
    weights, rows = trained((X, Y), epochs=20, callbacks=[Watch()], **settings)
    best = min(rows, key=lambda row: row["val_loss"])["epoch"]
    assert len(rows) == best + 2 < 20
    assert all(map(torch.equal, weights, seen[best]))
    again, _ = trained((X, Y), epochs=20, resume=True, **settings)
    assert all(map(torch.equal, weights, again))


def test_an_error_in_a_callback_leaves_the_checkpoint(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_epoch(self, model, progress, row) -> None:
            if row["epoch"] == 2:
                raise ZeroDivisionError

    whole, _ = trained((X, Y))
    with pytest.raises(ZeroDivisionError):
        trained((X, Y), out=tmp_path, callbacks=[Fails()])
    again, rows = trained((X, Y), out=tmp_path, resume=True)
    assert all(map(torch.equal, whole, again)) and len(rows) == 3


def test_divergence_is_raised() -> None:
    with pytest.raises(Diverged, match="lower lr"):
        trained((X, Y), lr=1e4, optimiser="sgd", epochs=20)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ((X, Y), {"patience": 2}, "validation"),
        ((X, Y), {"keep": "all"}, "keep 'all'"),
        ((X, Y), {"resume": True}, "out="),
        ((X, Y[:5]), {}, "one length, found 5, 90"),
        (TensorDataset(X), {}, r"not \(inputs, targets\)"),
        (7, {}, "data is a int"),
        ((X, Y), {"rule": "danp"}, "decorrelate the system"),
        ((X, Y), {"epochs": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(data, settings, message) -> None:
    with pytest.raises(InputError, match=message) as error:
        trained(data, **settings)
    assert "\n" not in str(error.value)


def test_a_folder_in_use_and_a_checkpoint_of_another_model_are_refused(tmp_path: Path) -> None:
    trained((X, Y), out=tmp_path)
    with pytest.raises(InputError, match="resume=True"):
        trained((X, Y), out=tmp_path)
    with pytest.raises(InputError, match="does not fit"):
        trained((X, Y), out=tmp_path, resume=True, seed=4)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rule": "kolen-pollack"}, "rule is mirrored in the checkpoint and kolen-pollack here"),
        ({"sigma": 0.5}, r"sigma is 0\.01 in the checkpoint and 0\.5 here"),
        ({"batch_size": 31}, "batch_size is 30 in the checkpoint and 31 here"),
        ({"seed": 4}, "seed is 0 in the checkpoint and 4 here"),
    ],
)
def test_a_resumed_run_has_the_settings_of_its_checkpoint(change, line, tmp_path: Path) -> None:
    trained((X, Y), sigma=0.01, out=tmp_path, epochs=1)
    with pytest.raises(InputError, match=f"^the checkpoint does not fit: {line}$"):
        trained((X, Y), out=tmp_path, resume=True, **({"sigma": 0.01} | change))


def test_a_resumed_run_has_the_loader_and_the_estimator_of_its_checkpoint(tmp_path: Path) -> None:
    def resumed(size: int, rule: str, sigma: float | None) -> None:
        estimator = NodePerturbation(model := network(), cross_entropy, rule, sigma=sigma)
        loader = DataLoader(TensorDataset(X, Y), size)
        settings = {"epochs": 1, "lr": 0.1, "out": tmp_path, "resume": True, "progress_bar": False}
        fit(model, loader, cross_entropy, rule=estimator, **settings)

    resumed(30, "np", 0.1)
    resumed(30, "np", 0.1)
    for other, name in (((31, "np", 0.1), "batch_size"), ((30, "np", 0.2), "sigma")):
        with pytest.raises(InputError, match=f"does not fit: {name} is [^;]*$"):
            resumed(*other)
    with pytest.raises(InputError, match="does not fit: rule is NodePerturbation with NP in"):
        resumed(30, "anp", 0.1)
