"""Pictures by class in subfolders: `noisynets train folder:PATH`.

The layout is train/CLASS/*.png with val/ and test/ beside train/, or CLASS/*.png alone. Pictures
are grey if all are, else they have three colours. They have equal sizes, or are cut to squares
and resized.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisynets.core.errors import InputError
from noisynets.core.reading import amount, memory, opened, reason
from noisynets.tasks.data.own import FOLDER, WHOLE, Found, Parts
from noisynets.tasks.data.own import task as own_task
from noisynets.tasks.data.task import Inputs, Task

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
GREY, COLOUR = "L", "RGB"
GREYS = ("1", "L", "LA", "La")
DEEP = ("I", "F")
"""First letters of Pillow's modes with more than 8 bits per colour."""
NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
"""Folders that may hold each part."""
ADVICE = "needed are pictures in PATH/CLASS/, or in PATH/train/CLASS/ (and val/, test/)"
MOST = 2**26
"""Pixels of one picture, at most."""


@dataclass(frozen=True)
class Form:
    """How pictures are read.

    Attributes:
        mode: Pillow's, `GREY` or `COLOUR`.
        width: in pixels.
        height: in pixels.
        resized: they are cut and resized to this size, whatever they had.
    """

    mode: str
    width: int
    height: int
    resized: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: channels, height, width."""
        return (1 if self.mode == GREY else 3), self.height, self.width


Listing = dict[str, dict[str, list[Path]]]
"""Files by part and class."""


def listed(path: Path) -> Listing:
    """List the pictures of a folder, in the order of their names.

    Raises:
        InputError: if there is no such folder, or a class has no picture.
    """
    inside = _folders(path)
    if not inside:
        raise InputError(f"{path}: no folder of a class in it: {ADVICE}")
    if not {"train", "test"} & inside.keys():
        return {WHOLE: _classes(path)}
    if "train" not in inside:
        raise InputError(f"{path}: has a folder 'test', and no 'train': {ADVICE}")
    there = {part: [n for n in names if n in inside] for part, names in NAMES.items()}
    twice = next((names for names in there.values() if len(names) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: has both {' and '.join(twice)}: keep one of them")
    return {part: _classes(inside[names[0]]) for part, names in there.items() if names}


def _folders(path: Path) -> dict[str, Path]:
    """Return the folders in a folder by name, without hidden ones."""
    try:
        with os.scandir(path) as entries:
            names = sorted(e.name for e in entries if e.name[0] != "." and e.is_dir())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({reason(error)}): {ADVICE}") from error
    return {name: path / name for name in names}


def _classes(path: Path) -> dict[str, list[Path]]:
    found = {label: pictures(folder) for label, folder in _folders(path).items()}
    empty = next((label for label, files in found.items() if not files), None)
    if empty is not None or not found:
        raise InputError(f"{path / (empty or '')}: no picture in it: {ADVICE}")
    return found


def pictures(folder: Path) -> list[Path]:
    """List the pictures that lie in a folder itself, by their endings."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.name[0] != "." and e.is_file())
    return [folder / name for name in names if name.lower().endswith(SUFFIXES)]


def form(files: Sequence[Path], size: int) -> Form:
    """Return how pictures are to be read, from the headers of all.

    Args:
        files: the pictures.
        size: pixels of a side to which all are resized; 0: their sizes must be equal.

    Raises:
        InputError: if one cannot be read, or sizes differ.
    """
    modes, first = set(), (0, 0)
    for i, file in enumerate(files):
        mode, found = _header(file)
        modes.add(mode)
        first = found if i == 0 else first
        if not size and found != first:
            raise InputError(
                f"{file}: has {found[0]} × {found[1]} pixels, {files[0]} {first[0]} × {first[1]}: "
                "give --size N to resize all to N × N"
            )
    width, height = (size, size) if size else first
    made = Form(GREY if modes <= set(GREYS) else COLOUR, width, height, bool(size))
    needed, limit = len(files) * int(np.prod(made.shape)), memory() // 4
    if needed > limit:
        raise InputError(
            f"{files[0].parent.parent}: {len(files)} pictures of {width} × {height} pixels need "
            f"{amount(needed)}, more than {amount(limit)}: give --size N, or fewer pictures"
        )
    return made


def _header(file: Path) -> tuple[str, tuple[int, int]]:
    """Return mode and size (width, height) of a picture."""

    def look(image: Image) -> tuple[str, tuple[int, int]]:
        turned = image.getexif().get(0x0112, 1) >= 5  # by a quarter
        return image.mode, image.size[::-1] if turned else image.size

    return _opened(file, look)


def read_picture(file: Path, form: Form) -> NDArray[np.uint8]:
    """Read one picture.

    Args:
        file: its path.
        form: of all.

    Returns:
        Bytes (channels, height, width).

    Raises:
        InputError: if it cannot be read, or has another size.
    """
    from PIL import ImageOps

    def read(image: Image) -> NDArray[np.uint8]:
        turned = ImageOps.exif_transpose(image).convert(form.mode)
        if form.resized:
            turned = ImageOps.fit(turned, (form.width, form.height))
        elif turned.size != (form.width, form.height):
            raise ValueError(
                f"it has {turned.size[0]} × {turned.size[1]} pixels, not {form.width} × "
                f"{form.height}"
            )
        array = np.asarray(turned, dtype=np.uint8)
        return array[None] if form.mode == GREY else array.transpose(2, 0, 1)

    return _opened(file, read)


def _opened(file: Path, use: Any) -> Any:
    """Return what a function makes of an opened picture."""
    from PIL import Image

    advice = "replace or remove it"
    try:
        with opened(file, advice) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MOST:
                    raise ValueError(f"it has {image.width} × {image.height} pixels")
                if image.mode.startswith(DEEP):
                    raise ValueError(f"it has more than 8 bits per colour, mode {image.mode}")
                return use(image)
    except InputError:
        raise
    except Exception as error:  # Pillow raises errors of many kinds
        words = "no known format" if "cannot identify" in str(error) else reason(error)
        raise InputError(f"{file}: not a readable picture ({words}): {advice}") from error


def stacked(files: Sequence[Path], form: Form) -> torch.Tensor:
    """Read pictures: bytes (n, channels, height, width)."""
    found = np.empty((len(files), *form.shape), dtype=np.uint8)
    for i, file in enumerate(files):
        found[i] = read_picture(file, form)
    return torch.from_numpy(found)


def _parts(listing: Listing, form: Form, labels: Sequence[str], path: Path) -> Parts:
    """Read all pictures, with their labels."""
    number = {label: i for i, label in enumerate(labels)}
    found = {}
    for part, classes in listing.items():
        strange = next((label for label in classes if label not in number), None)
        if strange is not None:
            raise InputError(
                f"{path}: {part} has a class {strange!r}, which was not trained; there are "
                f"{', '.join(labels)}"
            )
        files = [file for members in classes.values() for file in members]
        y = [number[label] for label, members in classes.items() for _ in members]
        found[part] = stacked(files, form), torch.tensor(y)
    return found


def _inputs(path: Path, *, form: Form) -> Inputs:
    """Read a picture, or those of a folder."""
    files = pictures(path) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path}: no picture in it: give a picture, or a folder of pictures")
    return stacked(files, form), [file.name for file in files]


def _others(path: Path, *, form: Form, labels: Sequence[str]) -> Parts:
    return _parts(listed(path), form, labels, path)


@lru_cache(maxsize=1)
def _read(path: Path, size: int, version: int) -> Task:
    """Return the task of a folder; `version` changes whenever a file does."""
    listing = listed(path)
    every = [f for classes in listing.values() for files in classes.values() for f in files]
    labels = tuple(next(iter(listing.values())))
    made = form(every, size)
    kind = "grey" if made.mode == GREY else "colour"
    found = Found(
        what=f"{kind} pictures of {made.width} × {made.height} pixels",
        parts=_parts(listing, made, labels, path),
        labels=labels,
        shape=made.shape,
        inputs=partial(_inputs, form=made),
        others=partial(_others, form=made, labels=labels),
    )
    return own_task(f"{FOLDER}{path}", path, found)


def task(path: Path, size: int = 0) -> Task:
    """Return the task of a folder of pictures.

    Args:
        path: of the folder.
        size: pixels of a side to which pictures are resized; 0: they have equal sizes.

    Raises:
        InputError: if the folder or a picture cannot be used.
    """
    return _read(path, size, _version(listed(path)))


def _version(listing: Listing) -> int:
    """Return a number that changes with every file."""
    files = [f for classes in listing.values() for members in classes.values() for f in members]
    return hash(tuple((f, s.st_mtime_ns, s.st_size) for f in files for s in (os.stat(f),)))
