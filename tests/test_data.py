"""The shipped MNIST files, errors for damaged files, and `Examples`."""

import gzip
import lzma
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noisynets.core.errors import InputError
from noisynets.run.data import load_data
from noisynets.run.settings import Config, resolve
from noisynets.tasks.data import AUGMENTATIONS, TASKS, Examples
from noisynets.tasks.data.mnist import FILES, MNIST


def test_mnist_is_complete_and_small() -> None:
    train, validation = MNIST.training(None, final_fit=False)
    test = MNIST.test(None)
    assert (len(train), len(validation), len(test)) == (55_000, 5_000, 10_000)
    assert train.x.shape[1:] == MNIST.input_shape and train.x.dtype == torch.uint8
    assert torch.bincount(test.y).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    whole, nothing = MNIST.training(None, final_fit=True)
    assert len(whole) == 60_000 and nothing is None
    assert sum(f.stat().st_size for f in FILES.iterdir()) <= 12 * 2**20


def copy_test_files(folder: Path, suffix: str) -> None:
    for file in FILES.glob("t10k*.xz"):
        data = lzma.decompress(file.read_bytes())
        packed = gzip.compress(data, 1) if suffix == ".gz" else data
        (folder / f"{file.stem}{suffix}").write_bytes(packed)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_in_a_users_folder_are_read(tmp_path: Path, suffix: str) -> None:
    copy_test_files(tmp_path, suffix)
    assert torch.equal(MNIST.test(tmp_path).x, MNIST.test(None).x)


def test_damaged_missing_and_altered_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no t10k-images"):
        MNIST.test(tmp_path)
    copy_test_files(tmp_path, "")
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    data = bytearray(labels.read_bytes())
    data[100] ^= 1
    labels.write_bytes(data)
    with pytest.raises(InputError, match=r"t10k-labels.*md5.*restore"):
        MNIST.test(tmp_path)
    labels.unlink()
    packed = (FILES / "t10k-labels-idx1-ubyte.xz").read_bytes()
    (tmp_path / "t10k-labels-idx1-ubyte.xz").write_bytes(packed[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        MNIST.test(tmp_path)


def test_bytes_are_divided_by_255() -> None:
    examples = Examples(torch.tensor([[0, 255]], dtype=torch.uint8), torch.tensor([1]))
    x, y = examples.batch(slice(0, 1), torch.float32)
    assert x.tolist() == [[0.0, 1.0]] and y.tolist() == [1]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, -1]), "label -1 of example 1"),
        (torch.zeros(2, 3), torch.tensor([0, 10]), "label 10 of example 1"),
        (torch.tensor([[0.0], [float("nan")]]), torch.tensor([0, 1]), "input 1 contains NaN"),
        (torch.zeros(3, 3), torch.tensor([0, 1]), "3 inputs and 2 targets"),
        (torch.zeros(0, 3), torch.tensor([], dtype=torch.long), "0 inputs and 0 targets"),
    ],
    ids=["negative label", "large label", "nan", "unpaired", "empty"],
)
def test_unusable_examples_are_refused(x, y, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Examples(x, y).check("mine", classes=10)


def test_every_task_has_a_summary_and_a_validation_set() -> None:
    assert all(task.summary and task.validation > 0 for task in TASKS.values())


def test_tasks_are_imported_without_heavy_packages() -> None:
    """Gymnasium, matplotlib, pooch and SciPy are imported by the functions that use them."""
    code = (
        "import sys, noisynets.tasks, noisynets.tasks.environments, noisynets.run.report\n"
        "heavy = {'gymnasium', 'matplotlib', 'pooch', 'scipy', 'PIL', 'requests', 'tonic'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_standardised_inputs_have_no_mean_and_unit_variance_per_channel() -> None:
    x = torch.randint(256, (300, 3, 5, 5), dtype=torch.uint8)
    x[:, 1] //= 4
    train = Examples(x, torch.zeros(300, dtype=torch.long))
    test = Examples(x[:7], train.y[:7]).standardised(train)
    found, _ = train.standardised(train).batch(slice(None), torch.float64)
    means, variances = found.mean((0, 2, 3)), found.var((0, 2, 3), correction=0)
    torch.testing.assert_close(means, torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(variances, torch.ones(3, dtype=torch.float64))
    assert torch.equal(test.first(2).batch(slice(2), torch.float64)[0], found[:2])
    assert train.x.dtype == torch.uint8  # kept as bytes


def test_crops_are_shifted_images_and_flips_are_mirrored_ones() -> None:
    x = torch.arange(2 * 3 * 12 * 12.0).view(2, 3, 12, 12) + 1
    seen = set()
    for seed in range(40):
        cropped = AUGMENTATIONS["crop"](x, torch.Generator().manual_seed(seed))
        for one, whole in zip(cropped, x, strict=True):
            found = [
                (dy, dx)
                for dy in range(-4, 5)
                for dx in range(-4, 5)
                if torch.equal(one, _shifted(whole, dy, dx))
            ]
            assert len(found) == 1
            seen.add(found[0])
        flipped = AUGMENTATIONS["flip"](x, torch.Generator().manual_seed(seed))
        assert all(
            torch.equal(f, w) or torch.equal(f, w.flip(2)) for f, w in zip(flipped, x, strict=True)
        )
    assert len(seen) > 30 and {-4, 4} <= {dy for dy, _ in seen}


def _shifted(picture: torch.Tensor, dy: int, dx: int) -> torch.Tensor:
    padded = torch.nn.functional.pad(picture, (4, 4, 4, 4))
    return padded[:, 4 + dy : 16 + dy, 4 + dx : 16 + dx]


def test_a_part_of_the_training_examples_is_drawn_once() -> None:
    config = resolve(Config("yinyang", system="mlp", rule="bp", train_examples=20))
    parts = [load_data(replace(config, seed=seed)) for seed in (0, 1)]
    whole, validation = load_data(replace(config, train_examples=0))
    assert validation is not None
    assert all(len(train) == 20 for train, _ in parts)
    assert torch.equal(parts[0][0].x, parts[1][0].x)
    rows = {tuple(row.tolist()) for row in whole.x}
    assert all(tuple(row.tolist()) in rows for row in parts[0][0].x)
    assert parts[0][1] is not None
    assert torch.equal(parts[0][1].x, validation.x), "validation stays whole"
    many = len(whole) + 1
    with pytest.raises(InputError, match=f"--train-examples {many}: yinyang has {many - 1}"):
        load_data(replace(config, train_examples=many))
