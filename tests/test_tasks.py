"""Generated tasks against their definitions, and files of one's own against what may be wrong."""

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from noisynets.core.errors import InputError
from noisynets.tasks.data import TASKS, find_task, mackey_glass, randman, yin_yang


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.files is None])
def test_tasks_are_the_same_every_time_and_leave_the_global_stream_alone(name: str) -> None:
    task = TASKS[name]
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    train, val = task.training()
    test = task.test()
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(numpy_before, np.random.get_state()[1])
    again, _ = task.training()
    assert torch.equal(train.x, again.x) and torch.equal(train.y, again.y)
    steps = (task.steps,) if task.steps else ()
    for part in (train, val, test):
        assert part.x.shape[1:] == (*steps, *task.input_shape)
    of_text = task.validation // task.input_shape[0] - 1  # windows; room for any offset
    assert len(val) == (of_text if task.vocabulary else task.validation)
    own = task.name in ("mnist", "text")  # in docs/results; the text is of this package
    assert own or task.reference, "what did others reach?"


def test_yin_yang_is_what_its_picture_shows() -> None:
    """Every point in the circle; dots within 0.1 of their centres; equal classes, 4 std errors."""
    train, val = yin_yang.YIN_YANG.training()
    x, y = train.x.double(), train.y
    torch.testing.assert_close(x[:, 2:], 1 - x[:, :2])
    assert ((x[:, 0] - 0.5) ** 2 + (x[:, 1] - 0.5) ** 2).max() <= 0.25
    left, right = (torch.hypot(x[:, 0] - c, x[:, 1] - 0.5) for c in (0.25, 0.75))
    assert torch.equal(y == 2, (left < 0.1) | (right < 0.1))
    upper, lower = x[:, 1] > 0.5, x[:, 1] < 0.5
    assert (y[upper & (left > 0.25) & (right > 0.25)] == 0).all()
    assert (y[lower & (left > 0.25) & (right > 0.25)] == 1).all()
    assert (y[(left <= 0.25) & (left > 0.1)] == 0).all()
    assert (y[(right <= 0.25) & (right > 0.1) & (left > 0.25)] == 1).all()
    n = len(y)
    shares = torch.bincount(y) / n
    assert (shares - 1 / 3).abs().max() < 4 * math.sqrt(2 / 9 / n)


def test_randman_follows_its_formula_and_says_nothing_but_time() -> None:
    train, _ = randman.RANDMAN.training()
    assert (train.x.sum(1) == 1).all()  # one spike per unit
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(7, 2, generator=torch.Generator().manual_seed(6))
    found = randman.manifold(x, 3, 2.0, generator)
    generator, expected = torch.Generator().manual_seed(5), np.ones((7, 3))
    for d in range(2):
        a, b, c = torch.rand(3, 3, 32, generator=generator).double().numpy()
        for n in range(7):
            for u in range(3):
                expected[n, u] *= sum(
                    a[u, i]
                    / (i + 1) ** 2
                    * math.sin(2 * math.pi * (i * x[n, d] * b[u, i] + c[u, i]))
                    for i in range(1, 32)
                )
    low, high = expected.min(0), expected.max(0)
    np.testing.assert_allclose(found.numpy(), (expected - low) / (high - low), atol=2e-4)


def test_mackey_glass_solves_its_equation() -> None:
    """Against steps ten times as small, by Heun's method, over two delays before chaos tells."""
    tau, h = 17.0, 0.01
    lag, n = round(tau / h), round(40 / h)
    x = np.full(lag + n + 1, mackey_glass.START)

    def slope(now: float, then: float) -> float:
        return 0.2 * then / (1 + then**10) - 0.1 * now

    for t in range(lag, lag + n):
        k1 = slope(x[t], x[t - lag])
        k2 = slope(x[t] + h * k1, x[t - lag + 1])
        x[t + 1] = x[t] + h / 2 * (k1 + k2)
    ours = mackey_glass.series(41, interval=1.0, transient=0)
    np.testing.assert_allclose(ours, x[lag :: round(1 / h)], rtol=2e-4)


def test_a_perfect_predictor_runs_free_without_error_and_a_constant_one_does_not() -> None:
    known = mackey_glass.load("test")

    def perfect(x: torch.Tensor) -> torch.Tensor:
        """The step of the nearest window, and back to the series where x has left it."""
        nearest = torch.cdist(x.double(), known.x.double()).argmin(1)
        _, std, step = mackey_glass.scales()
        return known.y[nearest] + (known.x[nearest, -1:] - x[:, -1:]) * std / step

    assert mackey_glass.free_run(perfect, "test") < 0.5
    assert mackey_glass.free_run(lambda x: torch.zeros(len(x), 1), "test") > 15


# --- events from a file ------------------------------------------------------------------------


def events(path: Path, **changes) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": (rng.random((24, 3, 2, 12)) < 0.2).astype(np.uint8),
        "y_train": np.arange(24) % 4,
        "x_test": (rng.random((8, 3, 2, 12)) < 0.2).astype(np.uint8),
        "y_test": np.arange(8) % 4,
    } | changes
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_events_come_with_their_time_behind_the_batch(tmp_path: Path) -> None:
    path = events(tmp_path / "a.npz")
    task = find_task("events", path)
    assert (task.input_shape, task.classes, task.steps) == ((3, 2), 4, 12)
    train, val = task.training()
    assert train.x.shape == (21, 12, 3, 2) and len(val) == 3
    with np.load(path) as file:
        assert np.array_equal(task.test().x[5].movedim(0, -1).numpy(), file["x_test"][5])
        assert train.x.sum() + val.x.sum() == file["x_train"].sum()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"y_test": None}, "no array 'y_test'.*arrays x_train"),
        ({"x_train": np.zeros((24, 12))}, r"x_train \(24, 12\) and y_train \(24,\) must"),
        ({"y_train": np.zeros((24, 4), int)}, r"y_train \(24, 4\) must"),
        ({"y_train": np.arange(23) % 4}, r"y_train \(23,\) must"),
        ({"y_train": np.arange(24) % 4 - 1}, "y_train must contain integer labels of at least 0"),
        ({"y_train": np.ones(24) * 0.5}, "y_train must contain integer labels"),
        ({"y_test": np.arange(8)}, "y_test has label 7, the largest in y_train is 3"),
        (
            {"x_test": np.ones((8, 3, 3, 12), np.uint8)},
            r"training examples have shape \(3, 2, 12\), test",
        ),
        ({"x_train": np.full((24, 3, 2, 12), -1)}, "x_train must contain counts"),
        ({"x_train": np.zeros((24, 3, 2, 0))}, "must have the shapes"),
        (
            {"x_train": np.ones((1, 3, 2, 12)), "y_train": np.zeros(1, int)},
            "at least two training examples",
        ),
        ({"x_train": np.full((24, 3, 2, 12), 0.5)}, "x_train must contain counts"),
        ({"x_train": np.zeros((24, 3, 2, 12))}, "x_train contains no event"),
        ({"x_train": np.ones((24, 12, 2))}, "2 time steps: time must be the last axis"),
        ({"y_train": np.arange(24) % 4 + 1}, "no training example has label 0: labels must be"),
    ],
)
def test_event_files_with_wrong_axes_or_labels_are_refused(changes, words, tmp_path) -> None:
    with pytest.raises(InputError, match=words) as error:
        find_task("events", events(tmp_path / "b.npz", **changes))
    assert "\n" not in str(error.value) and "b.npz" in str(error.value)


def test_files_that_are_no_events_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "c.npz"
    broken.write_bytes(b"nothing")
    for path, words in ((broken, "not a readable"), (tmp_path / "d.npz", "No such file")):
        with pytest.raises(InputError, match=words):
            find_task("events", path)
    with pytest.raises(InputError, match="give --data-dir FILE.npz"):
        find_task("events")


# --- tonic -------------------------------------------------------------------------------------


@pytest.fixture
def tonic(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that looks like tonic, with one set of events and one that has no classes."""

    class Toy:
        sensor_size = (4, 4, 2)

        def __init__(self, save_to: str, train: bool = True, transform=None) -> None:
            self.n, self.transform = (40 if train else 10), transform

        def __len__(self) -> int:
            return self.n

        def __getitem__(self, i: int):
            if i >= self.n:
                raise IndexError
            return self.transform(i), i % 3

    class Streams(Toy):
        def __getitem__(self, i: int):
            raise RuntimeError("download failed\nfor good")

    class ToFrame:
        def __init__(self, sensor_size, n_time_bins: int) -> None:
            self.shape = (n_time_bins, *sensor_size)

        def __call__(self, i: int) -> np.ndarray:
            return np.random.default_rng(i).poisson(0.3, self.shape)

    module = types.ModuleType("tonic")
    module.datasets = types.SimpleNamespace(Toy=Toy, Streams=Streams)
    module.transforms = types.SimpleNamespace(ToFrame=ToFrame)
    monkeypatch.setitem(sys.modules, "tonic", module)


def test_a_set_of_tonic_is_counted_in_bins(tonic, tmp_path: Path) -> None:
    task = find_task("tonic:Toy", tmp_path)
    assert (task.input_shape, task.classes, task.steps) == ((4, 4, 2), 3, 20)
    train, val = task.training()
    assert train.x.shape == (36, 20, 4, 4, 2) and len(val) == 4 and len(task.test()) == 10


def test_unknown_and_unreadable_sets_of_tonic_are_refused(tonic, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown tonic data set 'Tou': did you mean 'Toy'"):
        find_task("tonic:Tou", tmp_path)
    with pytest.raises(InputError, match="download failed") as error:
        find_task("tonic:Streams", tmp_path)
    assert "\n" not in str(error.value)


def test_tonic_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(InputError, match="pip install 'noisynets\\[tonic\\]'"):
        find_task("tonic:SHD")
