"""Tasks made of a user's own files: their parts, their classes, and what was understood of them.

The reader of a kind of file returns `Found`; `task` makes a task of it. Parts that the files lack
are drawn from the training examples at random, always the same ones, with the classes in
proportion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.tasks.data.measure import ACCURACY, NMSE
from noisynets.tasks.data.task import Examples, Inputs, OwnFiles, Task

SHARE, SEED, LEAST = 10, 0, 10
"""One example in `SHARE` is for validation, one for the test; seed of the order; fewest."""
SHOWN = 20
"""Classes whose numbers of examples are printed, at most."""
PREFIXES = FOLDER, ARRAYS = ("folder:", "arrays:")
"""Beginnings of the names of tasks that name a path."""
WHOLE = "whole"
"""Name of the examples of files that have no parts."""

Parts = Mapping[str, tuple[Tensor, Tensor]]
"""Inputs and targets of 'train', 'val' and 'test', or of `WHOLE`."""


@dataclass(frozen=True)
class Found:
    """What a reader has found in a user's files.

    Attributes:
        what: the inputs in words.
        parts: inputs and targets, as read.
        labels: names of the classes, by their number; (): the targets are numbers.
        shape: of one input; of sequences, of one step.
        steps: T of sequences; 0: inputs have no time axis.
        inputs: reads further inputs, prepared as these.
        others: reads the parts of other files, prepared as these.
        target: mean and standard deviation by which targets are standardised, (outputs,).
        scale: mean and standard deviation by which inputs are standardised, *shape.
    """

    what: str
    parts: Parts
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    inputs: Callable[[Path], Inputs]
    others: Callable[[Path], Parts]
    steps: int = 0
    target: tuple[Tensor, Tensor] | None = None
    scale: tuple[Tensor, Tensor] | None = None


def is_own(name: str) -> bool:
    """Return True for the name of a task that names a path.

    >>> is_own("folder:flowers"), is_own("mnist")
    (True, False)
    """
    return name.startswith(PREFIXES)


def path_of(name: str) -> Path:
    """Return the path that the name of a task names.

    >>> path_of("arrays:iris.csv").name
    'iris.csv'
    """
    _, _, text = name.partition(":")
    if not text:
        raise InputError(f"task {name!r}: names no path, as in {name}PATH")
    return Path(text).expanduser()


def located(name: str) -> str:
    """Return the name of a task with an absolute path, which holds in every working directory."""
    if not is_own(name):
        return name
    kind, _, _ = name.partition(":")
    return f"{kind}:{path_of(name).absolute()}"


def short(name: str) -> str:
    """Return the name of a task for a file name.

    >>> short("arrays:/data/iris.csv"), short("mnist")
    ('arrays-iris', 'mnist')
    """
    if not is_own(name):
        return name.replace("/", "-")
    return f"{name.partition(':')[0]}-{path_of(name).stem}"


def ordered(y: Tensor) -> Tensor:
    """Return an order of examples in which every stretch has the classes in proportion.

    Args:
        y: labels (n,), or target values (n, outputs).

    Returns:
        Positions (n,), at random and always the same.

    >>> y = torch.tensor([0] * 6 + [1] * 4)
    >>> y[ordered(y)][:5].bincount().tolist()
    [3, 2]
    """
    drawn = torch.randperm(len(y), generator=torch.Generator().manual_seed(SEED))
    if y.is_floating_point():
        return drawn
    place = torch.empty(len(y), dtype=torch.float64)
    for label in y.unique():
        members = drawn[y[drawn] == label]
        place[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return drawn[place[drawn].argsort(stable=True)]


def trained_on(y: Tensor, there: Collection[str]) -> Tensor:
    """Return the positions of the examples that are trained on, if parts are drawn from them.

    Args:
        y: targets of the examples, (n, ...).
        there: parts of the files, from which none is drawn.

    >>> len(trained_on(torch.arange(20.0), ["whole"]))
    16
    """
    taken = len(y) // SHARE * len({"val", "test"}.difference(there))
    return ordered(y)[: len(y) - taken]


def completed(parts: Parts, path: Path) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """Return the parts 'train', 'val' and 'test', and the names of those that were drawn.

    Args:
        parts: as read.
        path: of the files, for error messages.

    Raises:
        InputError: if there are too few examples to draw from.
    """
    x, y = parts.get("train", parts.get(WHOLE, (torch.empty(0), torch.empty(0))))
    order = ordered(y)
    drawn = [name for name in ("val", "test") if name not in parts]
    if drawn and len(y) < LEAST:
        raise InputError(
            f"{path}: {len(y)} examples: at least {LEAST} are needed to draw those for "
            "validation and test from them"
        )
    found = {name: part for name, part in parts.items() if name in ("val", "test")}
    size = len(y) // SHARE
    for name in reversed(drawn):
        order, taken = order[:-size], order[-size:]
        found[name] = x[taken], y[taken]
    return {"train": (x[order], y[order]), **found}, drawn


def task(name: str, path: Path, found: Found) -> Task:
    """Return the task of files that have been read.

    Args:
        name: of the task.
        path: of the files.
        found: in them.

    Raises:
        InputError: if the files do not suffice for a task.
    """
    outputs = next(iter(found.parts.values()))[1].shape[-1]
    classes = len(found.labels) or outputs
    if found.labels and classes < 2:
        raise InputError(f"{path}: one class alone, {found.labels[0]!r}: two are needed to learn")
    parts, drawn = completed(found.parts, path)
    learned = set(parts["train"][1].tolist()) if found.labels else set()
    lacking = [label for i, label in enumerate(found.labels) if i not in learned]
    if lacking:
        raise InputError(f"{path}: no training example of class {lacking[0]!r}: add some")
    (x, y), (x_val, y_val) = parts["train"], parts["val"]
    train = Examples(torch.cat([x, x_val]), torch.cat([y, y_val]))
    return Task(
        name=name,
        summary=f"{len(train) + len(parts['test'][1])} {found.what}",
        input_shape=found.shape,
        classes=classes,
        load=partial(_load, whole=train, test=Examples(*parts["test"])),
        validation=len(parts["val"][1]),
        measure=ACCURACY if found.labels else NMSE,
        steps=found.steps,
        own=OwnFiles(
            labels=found.labels,
            fingerprint=_fingerprint(found),
            understood=tuple(_understood(found, parts, drawn)),
            inputs=found.inputs,
            others=partial(_others, read=found.others),
            target=found.target,
            scale=found.scale,
        ),
    )


def _load(part: str, folder: Path | None, *, whole: Examples, test: Examples) -> Examples:
    return whole if part == "train" else test


def _others(path: Path, part: str, *, read: Callable[[Path], Parts]) -> Examples:
    """Return one part of other files, or all of their examples if they have no parts."""
    parts = read(path)
    name = "val" if part == "validation" else part
    if name not in parts and WHOLE not in parts:
        raise InputError(f"{path}: has no part {name!r}, but {', '.join(parts)}")
    return Examples(*parts.get(name, parts.get(WHOLE, ())))


def _understood(found: Found, parts: Parts, drawn: list[str]) -> list[str]:
    """Say in a few lines how files were understood: targets, and the sizes of parts."""
    if found.labels:
        counts = sum(y.bincount(minlength=len(found.labels)) for _, y in parts.values())
        numbered = zip(found.labels, torch.as_tensor(counts).tolist(), strict=True)
        each = [f"{label} {n}" for label, n in numbered]
        more = [f"and {len(each) - SHOWN} more"] if len(each) > SHOWN else []
        targets = f"{len(each)} classes: {', '.join(each[:SHOWN] + more)}"
    else:
        targets = f"{parts['train'][1].shape[1]} target values, standardised"
    sizes = {name: len(y) for name, (_, y) in parts.items()}
    how = {"val": "validation", "test": "test"}
    note = " and ".join(how[name] for name in drawn)
    note = f"; {note} drawn at random, always the same" if drawn else ""
    return [
        targets,
        f"{sizes['train']} training, {sizes['val']} validation, {sizes['test']} test "
        f"examples{note}",
    ]


def _fingerprint(found: Found) -> str:
    """Return a checksum of all examples and of the names of classes."""
    made = hashlib.blake2b("\0".join(found.labels).encode(errors="surrogateescape"), digest_size=16)
    for name, tensors in found.parts.items():
        made.update(name.encode())
        for tensor in tensors:
            made.update(str(tuple(tensor.shape)).encode())
            made.update(tensor.contiguous().numpy().data)
    return made.hexdigest()
