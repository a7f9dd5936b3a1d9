"""Downloads of data sets: order of sources, md5 sums, and the cache after failures."""

import errno
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from PIL import Image

from noisynets import cli
from noisynets.core.errors import InputError
from noisynets.tasks.data import TASKS, cifar, find_task, sarcos, store, tiny_imagenet
from noisynets.tasks.data.store import Files, Source, SourceFailed, fetch, locate, verify


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOISYNETS_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def writes(content: bytes):
    def make(folder: Path) -> None:
        (folder / "a.bin").write_bytes(content)
        (folder / "left over").mkdir()

    return make


def fails(error: Exception | type[BaseException]):
    def make(folder: Path) -> None:
        (folder / "a.bin").write_bytes(b"half")
        raise error

    return make


GOOD = b"what was published"


def files(*makes) -> Files:
    sources = tuple(Source(f"source {i}", make) for i, make in enumerate(makes))
    return Files("toy", {"a.bin": hashlib.md5(GOOD).hexdigest()}, sources, "place a.bin")


def test_the_first_source_with_correct_md5_sums_is_used(cache: Path) -> None:
    tried: list[str] = []
    toy = files(fails(SourceFailed("no answer")), writes(b"altered"), writes(GOOD), fails(OSError))
    folder = fetch(toy, tried.append)
    assert folder == cache / "toy" and [p.name for p in folder.iterdir()] == ["a.bin"]
    assert [line.split()[-1] for line in tried] == ["0", "1", "2"]
    assert fetch(files(fails(AssertionError("not asked again")))) == folder
    assert [p.name for p in cache.iterdir()] == ["toy"] and verify(toy, folder) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (fails(SourceFailed("no answer from example.org")), "source 0: no answer from example.org"),
        (writes(b"altered"), "a.bin has md5"),
        (lambda folder: None, "a.bin is missing"),
        (fails(OSError(errno.ENOSPC, "No space left on device")), "No space left on device"),
    ],
)
def test_a_failed_download_raises_one_line_and_leaves_the_cache_empty(
    make, words, cache: Path
) -> None:
    with pytest.raises(InputError, match=words) as error:
        fetch(files(make))
    assert "\n" not in str(error.value) and "place a.bin in" in str(error.value)
    assert list(cache.iterdir()) == []
    assert fetch(files(writes(GOOD))).is_dir()  # and the cache is usable


def test_no_further_source_is_tried_on_a_full_disk() -> None:
    full = fails(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(InputError) as error:
        fetch(files(full, fails(AssertionError("tried again"))))
    assert "source 1" not in str(error.value)


def test_an_interrupted_download_leaves_the_cache_empty(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch(files(fails(KeyboardInterrupt)))
    assert list(cache.iterdir()) == []


def test_downloads_go_to_the_cache_only(cache: Path) -> None:
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "b.bin").write_bytes(b"of old")
    assert (fetch(files(writes(GOOD))) / "a.bin").read_bytes() == GOOD
    assert (cache / "toy" / "b.bin").read_bytes() == b"of old"  # nothing of the user's is lost
    own = cache / "own"
    own.mkdir()
    with pytest.raises(InputError, match="no a.bin: place a.bin"):
        locate(files(writes(GOOD)), own)
    assert list(own.iterdir()) == []


def test_errors_of_package_clients_are_one_line(tmp_path: Path) -> None:
    for program, arguments, words in (
        ("no-such-client", (), "no-such-client is not installed"),
        ("python3", ("-c", "import sys; sys.exit('first\\nlast')"), "last"),
        ("python3", ("-c", "import sys; sys.exit(4)"), "exit code 4"),
    ):
        with pytest.raises(SourceFailed, match=words):
            store.client(tmp_path, program, *arguments)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(b"\x1f\x8b nothing")
    with pytest.raises((SourceFailed, OSError), match="a.tgz is damaged|gzip"):
        store.unpack(archive, tmp_path)


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="no answer from no-such-host.invalid"):
        store.download("https://no-such-host.invalid/a", tmp_path, "a")


# --- CIFAR -------------------------------------------------------------------------------------


def small_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ten images per batch, in the format of the npm package."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(60, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(60) % 10
    package = tmp_path / "package"
    package.mkdir()
    for i, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = pictures[10 * i : 10 * i + 10].reshape(10, 3, 1024).transpose(0, 2, 1)
        Image.fromarray(rows).save(package / f"{name}.png")
    (package / "train_lables.json").write_text(json.dumps(labels[:50].tolist()))
    (package / "test_lables.json").write_text(json.dumps(labels[50:].tolist()))
    return pictures, labels


def test_cifar10_is_rebuilt_in_the_publishers_format(monkeypatch, tmp_path: Path) -> None:
    pictures, labels = small_cifar(monkeypatch, tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    cifar.rebuild(tmp_path / "package", folder)
    records = np.fromfile(folder / "data_batch_2.bin", dtype=np.uint8).reshape(10, 3073)
    assert np.array_equal(records[:, 0], labels[10:20])
    assert np.array_equal(records[:, 1:].reshape(10, 3, 32, 32), pictures[10:20])
    sums = {p.name: store.digest(p) for p in folder.iterdir()}
    toy = Files("cifar10", sums, (), "place them")
    names = {"train": cifar.BATCHES, "test": ["test_batch.bin"]}
    train = cifar.load("train", folder, files=toy, names=names, labels=1)
    assert torch.equal(train.x, torch.from_numpy(pictures[:50])) and train.x.dtype == torch.uint8
    assert train.y.tolist() == labels[:50].tolist()
    assert len(cifar.load("test", folder, files=toy, names=names, labels=1)) == 10
    with (folder / "data_batch_1.bin").open("r+b") as file:
        file.seek(5)
        file.write(b"\x00\x01")
    with pytest.raises(InputError, match=r"data_batch_1.bin: md5 .* restore"):
        cifar.load("train", folder, files=toy, names=names, labels=1)
    with (folder / "test_batch.bin").open("r+b") as file:
        file.truncate(3073 * 4 + 7)
    with pytest.raises(InputError, match="truncated"):
        cifar.load("test", folder, files=toy, names=names, labels=1)


def test_the_md5_sum_of_an_archive_is_checked_after_its_download(
    tmp_path: Path, monkeypatch
) -> None:
    """Files without md5 sums are checked for presence; their archive is checked by its sum."""
    (tmp_path / "train.bin").write_bytes(b"x")
    assert verify(cifar.CIFAR100_FILES, tmp_path) == ["test.bin is missing"]

    def comes(url: str, known_hash, fname: str, path: Path, downloader) -> str:
        (path / fname).write_bytes(b"altered")
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", comes)
    with pytest.raises(InputError, match="cifar-100-binary.tar.gz has md5 .* expected"):
        fetch(cifar.CIFAR100_FILES)


def small_imagenet(folder: Path, per_class: int = 3) -> dict[str, np.ndarray]:
    """Two classes in the format of the publisher's zip, with one greyscale image."""
    rng = np.random.default_rng(0)
    shown = {}
    with zipfile.ZipFile(folder / tiny_imagenet.ARCHIVE, "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n02\nn01\n")

        def add(name: str, grey: bool) -> None:
            pixels = np.full((64, 64) if grey else (64, 64, 3), rng.integers(256), np.uint8)
            with archive.open(f"tiny-imagenet-200/{name}", "w") as file:
                Image.fromarray(pixels).save(file, "JPEG", quality=95)
            shown[name] = pixels

        for wnid in ("n01", "n02"):
            for i in reversed(range(per_class)):
                add(f"train/{wnid}/images/{wnid}_{i}.JPEG", grey=i == 1)
        for i in range(2):
            add(f"val/images/val_{i}.JPEG", grey=False)
        lines = "val_0.JPEG\tn01\t0\t0\t1\t1\nval_1.JPEG\tn02\t0\t0\t1\t1\n"
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", lines)
    return shown


def test_tiny_imagenet_is_read_from_its_zip(tmp_path: Path) -> None:
    shown = small_imagenet(tmp_path)
    small = replace(
        tiny_imagenet.FILES,
        sums={tiny_imagenet.ARCHIVE: store.digest(tmp_path / tiny_imagenet.ARCHIVE)},
    )
    train = tiny_imagenet.load("train", tmp_path, files=small)
    assert train.x.shape == (6, 3, 64, 64) and train.x.dtype == torch.uint8
    assert train.y.tolist() == [0, 1, 0, 1, 0, 1]  # in turns, so that the last are of all classes
    for i, name in enumerate(
        f"train/{w}/images/{w}_{k}.JPEG" for k in range(3) for w in ("n02", "n01")
    ):
        assert abs(int(train.x[i, 0, 9, 9]) - int(shown[name].flat[0])) <= 2
    test = tiny_imagenet.load("test", tmp_path, files=small)
    assert test.y.tolist() == [1, 0] and test.x.shape == (2, 3, 64, 64)
    with pytest.raises(InputError, match="md5 .* expected"):
        tiny_imagenet.load("test", tmp_path)
    with pytest.raises(InputError, match="place tiny-imagenet-200.zip"):
        TASKS["tiny-imagenet"].test(tmp_path / "nowhere")


def test_cifar100_trains_a_conv_net_from_files_placed_by_hand(tmp_path: Path) -> None:
    """With small files in the publisher's format: two label bytes, of which the second is used."""
    rng = np.random.default_rng(0)
    for name, n in (("train.bin", 5100), ("test.bin", 20)):
        records = rng.integers(256, size=(n, 3074), dtype=np.uint8)
        records[:, 0], records[:, 1] = 19, np.arange(n) % 100
        records.tofile(tmp_path / name)
    train, val = TASKS["cifar100"].training(tmp_path)
    assert train.x.shape == (100, 3, 32, 32) and train.y.tolist() == list(range(100))
    assert len(val) == 5000
    out = tmp_path / "run"
    cli.main(
        ["train", "cifar100", "--system", "conv", "--hidden", "4", "--epochs", "1", "--out"]
        + [str(out), "--data-dir", str(tmp_path)]
    )
    assert (out / "summary.json").is_file()


# --- SARCOS ------------------------------------------------------------------------------------


def test_sarcos_is_split_and_standardised_by_its_training_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "s.npz"
    np.savez(path, x=rng.normal(3, 5, (200, 21)), y=rng.normal(-2, 9, (200, 7)))
    task = find_task("sarcos", path)
    train, val = task.training()
    assert (len(train), len(val), len(task.test())) == (160, 20, 20)
    for values in (train.x, train.y):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(values.std(0, correction=0), torch.ones(values.shape[1]))
    assert float(task.measure.score(torch.zeros(160, 7), train.y).mean()) == pytest.approx(1)


def test_files_that_are_not_sarcos_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((50, 20)), y=np.zeros((50, 7)))
    np.savez(tmp_path / "b.npz", z=np.zeros(3))
    for path in (tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz", tmp_path):
        with pytest.raises(InputError, match="not SARCOS|no array 'x', 'y'|No such file"):
            sarcos.task(path)
    with pytest.raises(InputError, match="give --data-dir"):
        find_task("sarcos")


# --- the command -------------------------------------------------------------------------------


def test_the_data_command(cache: Path, monkeypatch, capsys) -> None:
    def call(*args: str) -> int:
        try:
            cli.main(["data", *args])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    toy = files(writes(GOOD))
    for name in ("cifar10", "cifar100", "fashion-mnist", "tiny-imagenet", "tiny-shakespeare"):
        task = TASKS[name]
        changed = type(task)(**{**task.__dict__, "files": Files(name, toy.sums, toy.sources, "")})
        monkeypatch.setitem(TASKS, name, changed)
    assert call("list") == 0 and capsys.readouterr().out.count("not fetched") == 5
    assert call("where", "cifar10") == 0
    assert capsys.readouterr().out.strip() == str(cache / "cifar10")
    assert call("fetch", "cifar10") == 0 and (cache / "cifar10" / "a.bin").is_file()
    capsys.readouterr()
    assert call("verify") == 0 and capsys.readouterr().out == "cifar10: as published\n"
    (cache / "cifar10" / "a.bin").write_bytes(b"altered")
    assert call("verify", "cifar10") == 2
    printed = capsys.readouterr()
    assert "a.bin has md5" in printed.out and "noisynets data fetch" in printed.err
    assert call("fetch") == 2 and "fetch what?" in capsys.readouterr().err
    assert call("fetch", "mnist") == 2 and "comes with the package" in capsys.readouterr().err
    assert call("fetch", "cifar") == 2 and "did you mean 'cifar10'" in capsys.readouterr().err
