"""Event data sets of the tonic package: `noisynets train tonic:SHD`. Needs the extra [tonic].

Events are counted in time bins of equal length. tonic itself downloads the files.

Source: Lenz et al., tonic (https://tonic.readthedocs.io).
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from noisynets.core.errors import InputError, unknown
from noisynets.core.extras import extra
from noisynets.tasks.data.task import Examples, Task

PREFIX = "tonic:"
BINS = 20
"""Time bins per example."""
SEED = 0
"""Seed of the fixed order of the training examples."""


def task(name: str, folder: Path | None) -> Task:
    """Return the task of a tonic data set; the last tenth of its training part is for validation.

    Args:
        name: name of the data set, with or without the prefix 'tonic:'.
        folder: folder of tonic's files; None: ~/.cache/tonic.

    Raises:
        InputError: if the name is unknown, tonic is not installed, or it cannot provide the data.
    """
    name = name.removeprefix(PREFIX)
    with extra("tonic", f"{PREFIX}{name}"):
        import tonic
    known = [n for n in dir(tonic.datasets) if _is_set(getattr(tonic.datasets, n))]
    if name not in known:
        raise unknown("tonic data set", name, known)
    where = folder or Path.home() / ".cache" / "tonic"
    train = read(name, "train", where)
    return Task(
        name=f"{PREFIX}{name}",
        summary=f"event counts of {name} in {BINS} time bins, from tonic",
        input_shape=tuple(train.x.shape[2:]),
        classes=int(train.y.max()) + 1,
        load=partial(load, name=name, where=where),
        validation=max(1, len(train) // 10),
        steps=BINS,
    )


def load(part: str, folder: Path | None, *, name: str, where: Path) -> Examples:
    """Load one part; training examples come in a fixed random order.

    Args:
        part: 'train' or 'test'.
        folder: ignored.
        name: name of the data set in tonic.
        where: folder of tonic's files.

    Returns:
        Counts (n, T, *sensor), signed bytes, and labels (n,).
    """
    examples = read(name, part, where)
    if part == "test":
        return examples
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SEED))
    return Examples(examples.x[order], examples.y[order])


@lru_cache(maxsize=2)
def read(name: str, part: str, where: Path) -> Examples:
    """Read one part of a data set as counts per time bin, in tonic's order.

    Args:
        name: name of the data set in tonic.
        part: 'train' or 'test'.
        where: folder of tonic's files.

    Returns:
        Counts (n, T, *sensor), signed bytes, and labels (n,).

    Raises:
        InputError: if tonic cannot provide the data, or the labels are not integers.
    """
    with extra("tonic", f"{PREFIX}{name}"):
        import tonic

    kind = getattr(tonic.datasets, name)
    bins = tonic.transforms.ToFrame(sensor_size=kind.sensor_size, n_time_bins=BINS)
    try:
        found = _open(kind, part, where, bins)
        pairs = [(torch.as_tensor(x), y) for x, y in found]
        x = torch.stack([x.clamp(0, 127).to(torch.int8) for x, _ in pairs])
        y = torch.tensor([int(label) for _, label in pairs])
    except Exception as error:  # each of tonic's readers raises its own kinds of errors
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(
            f"{PREFIX}{name}: tonic provides no labelled events for {part!r} in {where} "
            f"({reason[0]}): place its files there, or choose another data set"
        ) from error
    return Examples(x, y)


def _open(kind: Any, part: str, where: Path, bins: Any) -> Any:
    """Make one part of a tonic data set."""
    try:
        return kind(save_to=str(where), train=part == "train", transform=bins)
    except TypeError:  # some data sets take `split` in place of `train`
        return kind(save_to=str(where), split=part, transform=bins)


def _is_set(kind: Any) -> bool:
    """Return True for a class that is one of tonic's data sets."""
    return isinstance(kind, type) and getattr(kind, "sensor_size", None) is not None
