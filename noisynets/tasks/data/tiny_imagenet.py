"""Tiny ImageNet: 110,000 colour images of 64 × 64 pixels in 200 classes, from the publisher's zip.

The labels of the publisher's test images are not public. As is usual, its 10,000 validation images
are the test set here, and the last 50 training images of each class are the validation set.

Source: Le and Yang, *Tiny ImageNet visual recognition challenge* (Stanford CS 231N, 2015).
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from noisynets.core.errors import InputError
from noisynets.core.reading import reason
from noisynets.tasks.data.store import Files, Source, digest, download, locate
from noisynets.tasks.data.task import Examples, Task

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"
SIZE = 64
TEXT, IMAGES = 2**24, 200_000
"""Bytes of a list in the archive, and images of a part, at most."""


def _from_publisher(folder: Path) -> None:
    """Download the publisher's archive."""
    download(f"http://cs231n.stanford.edu/{ARCHIVE}", folder, ARCHIVE)


FILES = Files(
    "tiny-imagenet",
    {ARCHIVE: "90528d7ca1a48142e341f4ef8d21d0de"},
    (Source("the publisher", _from_publisher),),
    f"place {ARCHIVE}",
)


def images(archive: zipfile.ZipFile, part: str) -> list[tuple[str, int]]:
    """List the names of a part's images in the archive, with their labels.

    The training images are ordered so that the classes alternate: one image of every class, then
    the next of every class.

    Args:
        archive: the publisher's archive.
        part: 'train' or 'test'.
    """
    classes = _text(archive, f"{ROOT}/wnids.txt").split()
    label = {name: i for i, name in enumerate(classes)}
    if part == "test":
        lines = _text(archive, f"{ROOT}/val/val_annotations.txt").splitlines()
        pairs = [line.split("\t")[:2] for line in lines if line.strip()]
        return [(f"{ROOT}/val/images/{name}", label[wnid]) for name, wnid in pairs]
    found: dict[str, list[str]] = {name: [] for name in classes}
    for name in archive.namelist():
        parts = name.split("/")
        if parts[1:2] == ["train"] and name.endswith(".JPEG"):
            found[parts[2]].append(name)
    for names in found.values():
        names.sort(key=lambda name: int(name.rsplit("_", 1)[1].removesuffix(".JPEG")))
    one_of_each = zip(*found.values(), strict=True)
    return [(name, i) for names in one_of_each for i, name in enumerate(names)]


def _text(archive: zipfile.ZipFile, name: str) -> str:
    """Return a text of the archive."""
    with archive.open(name) as file:
        data = file.read(TEXT + 1)
    if len(data) > TEXT:
        raise ValueError(f"{name} is too long")
    return data.decode()


def load(part: str, folder: Path | None, *, files: Files = FILES) -> Examples:
    """Load one part of the data set.

    Args:
        part: 'train' or 'test'.
        folder: folder of the zip file; None: the cache, filled by a download if necessary.
        files: description of the data set's files.

    Returns:
        Images (n, 3, 64, 64), bytes, and labels (n,).

    Raises:
        InputError: if the file is missing, truncated or altered.
    """
    from PIL import Image

    path = locate(files, folder) / ARCHIVE
    if (found := digest(path)) != files.sums[ARCHIVE]:
        raise InputError(
            f"{path}: md5 {found}, expected {files.sums[ARCHIVE]}: restore the original file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            named = images(archive, part)
            if len(named) > IMAGES:
                raise ValueError(f"{len(named)} images")
            x = np.empty((len(named), 3, SIZE, SIZE), dtype=np.uint8)
            for i, (name, _) in enumerate(named):
                with archive.open(name) as file, Image.open(file, formats=["JPEG"]) as image:
                    if image.size != (SIZE, SIZE):
                        raise ValueError(f"{name} has {image.size} pixels")
                    x[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except Exception as error:  # Pillow and zipfile raise errors of many kinds
        raise InputError(
            f"{path}: not Tiny ImageNet ({reason(error)}): download it again"
        ) from error
    return Examples(torch.from_numpy(x), torch.tensor([label for _, label in named]))


TINY_IMAGENET = Task(
    name="tiny-imagenet",
    summary="colour images of 200 classes, 64×64; 90,000 train, 10,000 validation, 10,000 test",
    input_shape=(3, SIZE, SIZE),
    classes=200,
    load=partial(load, files=FILES),
    validation=10_000,
    files=FILES,
)
