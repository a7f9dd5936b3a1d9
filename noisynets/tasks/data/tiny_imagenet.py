"""Tiny ImageNet: 110,000 pictures of 64 × 64 in colour, of 200 classes, from the publisher's zip.

Le and Yang, *Tiny ImageNet visual recognition challenge* (Stanford CS 231N, 2015). The labels of
the publisher's test pictures are not public: its 10,000 validation pictures are the test set here,
as is usual, and the last 50 training pictures of each class are kept for validation.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from noisynets.core.errors import InputError
from noisynets.tasks.data.store import Files, Source, digest, download, locate
from noisynets.tasks.data.task import Examples, Task

ARCHIVE = "tiny-imagenet-200.zip"
ROOT = "tiny-imagenet-200"
SIZE = 64


def _published(folder: Path) -> None:
    download(f"http://cs231n.stanford.edu/{ARCHIVE}", folder, ARCHIVE)


FILES = Files(
    "tiny-imagenet",
    {ARCHIVE: "90528d7ca1a48142e341f4ef8d21d0de"},
    (Source("the publisher", _published),),
    f"place {ARCHIVE}",
)


def pictures(archive: zipfile.ZipFile, part: str) -> list[tuple[str, int]]:
    """List names of pictures and their labels; of the training part class after class in turns.

    Args:
        archive: the publisher's.
        part: 'train' or 'test'.
    """
    classes = archive.read(f"{ROOT}/wnids.txt").decode().split()
    label = {name: i for i, name in enumerate(classes)}
    if part == "test":
        lines = archive.read(f"{ROOT}/val/val_annotations.txt").decode().splitlines()
        pairs = [line.split("\t")[:2] for line in lines if line.strip()]
        return [(f"{ROOT}/val/images/{name}", label[wnid]) for name, wnid in pairs]
    found: dict[str, list[str]] = {name: [] for name in classes}
    for name in archive.namelist():
        parts = name.split("/")
        if parts[1:2] == ["train"] and name.endswith(".JPEG"):
            found[parts[2]].append(name)
    for names in found.values():
        names.sort(key=lambda name: int(name.rsplit("_", 1)[1].removesuffix(".JPEG")))
    in_turns = zip(*found.values(), strict=True)
    return [(name, i) for names in in_turns for i, name in enumerate(names)]


def load(part: str, folder: Path | None, *, files: Files = FILES) -> Examples:
    """Return one part, as bytes (n, 3, 64, 64).

    Args:
        part: 'train' or 'test'.
        folder: holds the zip; None: the cache, filled if need be.
        files: of the set.

    Raises:
        InputError: for a file that is missing, truncated or altered.
    """
    path = locate(files, folder) / ARCHIVE
    if (found := digest(path)) != files.md5[ARCHIVE]:
        raise InputError(
            f"{path}: md5 {found} where {files.md5[ARCHIVE]} was expected: restore the original"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            named = pictures(archive, part)
            x = np.empty((len(named), 3, SIZE, SIZE), dtype=np.uint8)
            for i, (name, _) in enumerate(named):
                with archive.open(name) as file, Image.open(file) as picture:
                    x[i] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    except (zipfile.BadZipFile, UnidentifiedImageError, KeyError, ValueError) as error:
        raise InputError(f"{path}: not Tiny ImageNet ({error})") from error
    return Examples(torch.from_numpy(x), torch.tensor([label for _, label in named]))


TINY_IMAGENET = Task(
    name="tiny-imagenet",
    summary="pictures of 200 classes, 64×64 in colour; 90,000 train, 10,000 validation and test",
    input_shape=(3, SIZE, SIZE),
    classes=200,
    load=partial(load, files=FILES),
    validation=10_000,
    files=FILES,
)
