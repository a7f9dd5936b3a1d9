"""Fashion-MNIST: 60,000 + 10,000 greyscale images of clothes, 28 × 28 pixels, in 10 classes.

Source: Xiao, Rasul and Vollgraf, *Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms* (arXiv 1708.07747).
"""

from __future__ import annotations

from pathlib import Path

from noisynets.tasks.data import mnist
from noisynets.tasks.data.store import Files, Source, client, download, expand_file, locate
from noisynets.tasks.data.task import Examples, Task

SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def _from_publisher(folder: Path) -> None:
    """Download the four files from the publisher."""
    for name in MD5:
        _gunzip(download(f"{SITE}/{name}.gz", folder, f"{name}.gz"), folder)


def _from_debian(folder: Path) -> None:
    """Download Debian's package with apt-get and take the four files from it."""
    client(folder, "apt-get", "download", "dataset-fashion-mnist")
    (package,) = folder.glob("*.deb")
    client(folder, "dpkg-deb", "-x", package.name, "unpacked")
    package.unlink()
    for path in (folder / "unpacked").rglob("*.gz"):
        if path.stem in MD5:
            _gunzip(path, folder)


def _gunzip(path: Path, folder: Path) -> None:
    """Expand a .gz file into a folder and delete it."""
    expand_file(path, folder / path.stem, ".gz", limit=mnist.LONGEST)
    path.unlink()


FILES = Files(
    "fashion-mnist",
    MD5,
    (Source("the publisher", _from_publisher), Source("Debian's packages", _from_debian)),
    "place the four uncompressed IDX files",
)


def load(part: str, folder: Path | None = None) -> Examples:
    """Load one part of the data set.

    Args:
        part: 'train' or 'test'.
        folder: folder of the files; None: the cache, filled by a download if necessary.

    Returns:
        Images (n, 1, 28, 28), bytes, and labels (n,).

    Raises:
        InputError: if a file is missing, damaged or altered.
    """
    where = folder if folder is not None else locate(FILES, None)
    return mnist.load(part, where, md5=MD5)


CLOTHES = (
    "T-shirt",
    "trousers",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_MNIST = Task(
    name="fashion-mnist",
    summary="images of clothes, 28×28 grey; 55,000 train, 5,000 validation, 10,000 test",
    input_shape=(1, 28, 28),
    classes=10,
    load=load,
    validation=5000,
    files=FILES,
    labels=CLOTHES,
)
