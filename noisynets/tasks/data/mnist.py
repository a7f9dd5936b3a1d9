"""MNIST: 60,000 + 10,000 greyscale images of handwritten digits, 28 × 28 pixels, in 10 classes.

The package contains the four original files, compressed with xz; their md5 sums are checked at
every load. files/MNIST.md states origin and terms.

Source: LeCun, Bottou, Bengio and Haffner, *Gradient-based learning applied to document
recognition* (Proc. IEEE 86, 1998). The data set was made by Yann LeCun, Corinna Cortes and
Christopher Burges from NIST's Special Databases 1 and 3.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.core.reading import expanded, read_bytes
from noisynets.tasks.data.task import Examples, Task

FILES = Path(__file__).parent / "files"
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SUFFIXES = (".xz", ".gz", "")
LONGEST = 2**26
"""Bytes of a file, at most; the longest of the original files has 47,040,016."""
ADVICE = "restore the original file"


def load(part: str, folder: Path | None = None, *, md5: dict[str, str]) -> Examples:
    """Read the images and labels of one part.

    Args:
        part: 'train' or 'test'.
        folder: folder of the four files, uncompressed or as .gz or .xz; None: the package's files.
        md5: expected md5 sums of the uncompressed files, by file name.

    Returns:
        Images (n, 1, 28, 28), bytes, and labels (n,).

    Raises:
        InputError: if a file is missing, damaged or altered.
    """
    stem = {"train": "train", "test": "t10k"}[part]
    images = read(folder or FILES, f"{stem}-images-idx3-ubyte", md5)
    labels = read(folder or FILES, f"{stem}-labels-idx1-ubyte", md5)
    return Examples(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels).long())


def read(folder: Path, name: str, md5: dict[str, str]) -> NDArray[np.uint8]:
    """Read one file in the IDX format and check its md5 sum.

    Args:
        folder: folder of the file.
        name: file name without the ending of a compression.
        md5: expected md5 sums of the uncompressed files, by file name.

    Returns:
        The array in the file.

    Raises:
        InputError: if the file is missing, damaged or altered.
    """
    suffix = next((s for s in SUFFIXES if (folder / f"{name}{s}").is_file()), None)
    if suffix is None:
        raise InputError(f"{folder}: no {name}, {name}.gz or {name}.xz in this folder")
    path = folder / f"{name}{suffix}"
    packed = read_bytes(path, limit=LONGEST, advice=ADVICE)
    data = expanded(packed, suffix, limit=LONGEST, what=str(path), advice=ADVICE)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5[name]:
        raise InputError(f"{path}: md5 {found}, expected {md5[name]}: {ADVICE}")
    dimensions = data[3]
    shape = np.frombuffer(data, dtype=">u4", offset=4, count=dimensions)
    body = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
    return body.reshape(shape.tolist()).copy()


MNIST = Task(
    name="mnist",
    summary="handwritten digits, 28×28 grey; 55,000 train, 5,000 validation, 10,000 test",
    input_shape=(1, 28, 28),
    classes=10,
    load=partial(load, md5=MD5),
    validation=5000,
)
