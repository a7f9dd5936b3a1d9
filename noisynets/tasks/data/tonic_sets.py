"""Any of tonic's data sets of events: `noisynets train tonic:SHD`. Needs the extra [tonic].

Lenz et al., tonic (https://tonic.readthedocs.io). Events are counted in bins of equal length; what
tonic downloads, and where from, is its own affair.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from noisynets.core.errors import InputError, unknown
from noisynets.tasks.data.task import Examples, Task

PREFIX = "tonic:"
BINS = 20
SEED = 0


def task(name: str, folder: Path | None) -> Task:
    """Return the task of a tonic data set; a tenth of its training part is for validation.

    Args:
        name: with or without the prefix 'tonic:'.
        folder: where tonic keeps its files; None: ~/.cache/tonic.

    Raises:
        InputError: for an unknown name, or where tonic is not installed or finds no files.
    """
    name = name.removeprefix(PREFIX)
    try:
        import tonic
    except ImportError as error:
        raise InputError(
            f"{PREFIX}{name}: tonic is not installed: pip install 'noisynets[tonic]'"
        ) from error
    known = [n for n in dir(tonic.datasets) if _is_set(getattr(tonic.datasets, n))]
    if name not in known:
        raise unknown("tonic data set", name, known)
    where = folder or Path.home() / ".cache" / "tonic"
    train = read(name, "train", where)
    return Task(
        name=f"{PREFIX}{name}",
        summary=f"events of {name}, in {BINS} bins, by tonic",
        input_shape=tuple(train.x.shape[2:]),
        classes=int(train.y.max()) + 1,
        load=partial(load, name=name, where=where),
        validation=max(1, len(train) // 10),
        steps=BINS,
    )


def load(part: str, folder: Path | None, *, name: str, where: Path) -> Examples:
    """Return one part; to train on, in a fixed random order."""
    examples = read(name, part, where)
    if part == "test":
        return examples
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(SEED))
    return Examples(examples.x[order], examples.y[order])


@lru_cache(maxsize=2)
def read(name: str, part: str, where: Path) -> Examples:
    """Read one part of a set as counts per bin, (n, T, *sensor).

    Raises:
        InputError: where tonic cannot provide it, or its labels are no classes.
    """
    import tonic

    kind = getattr(tonic.datasets, name)
    bins = tonic.transforms.ToFrame(sensor_size=kind.sensor_size, n_time_bins=BINS)
    try:
        found = _open(kind, part, where, bins)
        pairs = [(torch.as_tensor(x), y) for x, y in found]
        x = torch.stack([x.clamp(0, 127).to(torch.int8) for x, _ in pairs])
        y = torch.tensor([int(label) for _, label in pairs])
    except Exception as error:  # tonic's readers fail in as many ways as there are sets
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise InputError(
            f"{PREFIX}{name}: tonic gives no classes of events for {part!r} in {where} "
            f"({reason[0]}): place its files there, or choose another set"
        ) from error
    return Examples(x, y)


def _open(kind: Any, part: str, where: Path, bins: Any) -> Any:
    try:
        return kind(save_to=str(where), train=part == "train", transform=bins)
    except TypeError:  # some sets name their parts
        return kind(save_to=str(where), split=part, transform=bins)


def _is_set(kind: Any) -> bool:
    return isinstance(kind, type) and getattr(kind, "sensor_size", None) is not None
