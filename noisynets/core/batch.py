"""Batches: which tensors of inputs and targets have one row per sample, and stacks of passes.

Inputs and targets are trees (see `trees`). A tensor in them has one row per sample, is stacked for
the passes and cut with them, unless it is inside `Shared`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from noisynets.core.errors import InputError, NoisynetsError
from noisynets.core.trees import mapped, named


class Shared:
    """A part of the inputs or targets that all rows share, such as a mask (T, T) of positions.

    It is needed only for a tensor whose length happens to be the batch size: one of another length
    is found to be shared. The system and the loss receive the value itself.

    Args:
        value: a tensor, or a tree.

    >>> inputs = {"x": torch.randn(4, 4, 8), "mask": Shared(torch.ones(4, 4).tril())}
    """

    def __init__(self, value: Any) -> None:
        self.value = value


def of_trees(inputs: Any, targets: Any, shared: dict[str, bool]) -> tuple[Any, Any, int]:
    """Return inputs and targets, with all that has no rows inside `Shared`, and B.

    Args:
        inputs: a tree. A tensor whose length is not B is shared.
        targets: a tree; every tensor in it has B rows.
        shared: which inputs are, by path, as far as is known; updated.

    Raises:
        InputError: naming the tensor whose length does not fit.
    """
    given, wanted = list(named(inputs, "inputs")), list(named(targets, "targets"))
    if not any(_length(leaf) for _, leaf in given):
        raise InputError(
            "inputs hold no tensor with rows: give one tensor with the batch first, a tuple of "
            "positional arguments or a dict of keyword arguments"
        )
    if targets is not None and not any(isinstance(t, Tensor | Shared) for _, t in wanted):
        raise InputError("targets hold no tensor: give tensors with the batch first, or None")
    lengths = [(path, n) for path, leaf in [*wanted, *given] if (n := _length(leaf))]
    first, batch = lengths[0]
    for path, leaf in [*wanted, *(given if isinstance(inputs, Tensor) else ())]:
        if _length(leaf) not in (None, batch):
            raise InputError(
                f"{path} has {_length(leaf)} rows where {first} has {batch}: give one row per "
                "sample, or Shared(tensor) for what all samples share"
            )
    marked = [
        leaf
        if _length(leaf) is None or _has_rows(path, _length(leaf), batch, shared)
        else Shared(leaf)
        for path, leaf in given
    ]
    if not any(_length(leaf) for leaf in marked):
        found = ", ".join(f"{path} has {n}" for path, n in lengths if path != first)
        raise InputError(f"no input has the {batch} rows of {first}: {found}")
    new = iter(marked)
    return mapped(inputs, lambda _: next(new)), mapped(targets, _share_scalar), batch


def _has_rows(path: str, length: int | None, batch: int, shared: dict[str, bool]) -> bool:
    """Return True if a tensor of the inputs has one row per sample."""
    before = shared.get(path)
    if before is False and length != batch:
        raise InputError(
            f"{path} has {length} rows where the batch has {batch}, though it had one per sample "
            "before: write Shared(tensor) if all samples share it"
        )
    shared[path] = before or length != batch
    return not shared[path]


def _length(leaf: Any) -> int | None:
    """Return the number of rows of a leaf; None if it can have none."""
    if isinstance(leaf, PackedSequence):
        return int(leaf.batch_sizes[0])
    return len(leaf) if isinstance(leaf, Tensor) and leaf.dim() else None


def _share_scalar(leaf: Any) -> Any:
    return Shared(leaf) if isinstance(leaf, Tensor) and not leaf.dim() else leaf


def stacked(tree: Any, passes: int) -> Any:
    """Return a tree with the rows of all passes, pass after pass.

    A `PackedSequence` is padded, stacked and packed again, so that its rows keep their order.

    >>> stacked((torch.tensor([1, 2]), Shared(torch.zeros(1)), "text"), 2)[0]
    tensor([1, 2, 1, 2])
    """
    if isinstance(tree, Tensor):
        return torch.cat([tree] * passes)
    return mapped(tree, lambda leaf: _changed(leaf, lambda t: torch.cat([t] * passes)))


def first_rows(tree: Any, rows: int) -> Any:
    """Return a tree with the first rows of every tensor that has rows.

    >>> first_rows((torch.tensor([1, 2]), Shared(torch.zeros(1))), 1)[0]
    tensor([1])
    """
    return mapped(tree, lambda leaf: _changed(leaf, lambda t: t[:rows]))


def one_row(tree: Any, rows: int, row: int) -> Any:
    """Return a tree with one row, kept as a dimension, of every tensor that has so many rows.

    >>> one_row({"a": torch.tensor([1, 2]), "b": torch.zeros(3)}, 2, 1)
    {'a': tensor([2]), 'b': tensor([0., 0., 0.])}
    """
    return mapped(tree, lambda t: t[row : row + 1] if _length(t) == rows else t)


def _changed(leaf: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(leaf, PackedSequence):
        padded, lengths = pad_packed_sequence(leaf, batch_first=True)
        return pack_padded_sequence(change(padded), change(lengths), True, enforce_sorted=False)
    return change(leaf) if isinstance(leaf, Tensor) else leaf


def plain(tree: Any) -> Any:
    """Return a tree with the values of what is `Shared` in place of it.

    >>> plain({"mask": Shared("value")})
    {'mask': 'value'}
    """
    return mapped(tree, lambda leaf: leaf.value if isinstance(leaf, Shared) else leaf)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that inputs stand for.

    >>> arguments((1, 2)), arguments({"x": 1})
    (((1, 2), {}), ((), {'x': 1}))
    """
    inputs = plain(inputs)
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    several = isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence)
    return (tuple(inputs) if several else (inputs,)), {}


def called(system: Callable[..., Any], inputs: Any) -> Any:
    """Return the outputs of a system.

    Raises:
        InputError: naming the inputs with rows and those without, if it fails for several.
    """
    if isinstance(inputs, Tensor):
        return system(inputs)
    given, keywords = arguments(inputs)
    try:
        return system(*given, **keywords)
    except (NoisynetsError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"the system failed for {_described(inputs)}: {' '.join(str(error).split())}"
        ) from error


def _described(inputs: Any) -> str:
    """Say which inputs have rows, and which do not."""
    found = [(path, leaf) for path, leaf in named(inputs, "inputs")]
    rows = [f"{path} {_shape(leaf)}" for path, leaf in found if _length(leaf) is not None]
    rest = [f"{path} {_shape(leaf.value)}" for path, leaf in found if isinstance(leaf, Shared)]
    shared = f", shared by all: {', '.join(rest)}" if rest else ""
    return (
        f"inputs with the rows of all passes: {', '.join(rows)}{shared} (write Shared(tensor) if "
        "it has no row per sample)"
    )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def check_finite(name: str, values: Any, on_host: bool = False) -> None:
    """Refuse rows (B, ...) that are not finite; synchronises the device.

    In a tree only NaN is refused, because a mask may hold infinities.

    Args:
        name: of the tree.
        values: a tensor or a tree.
        on_host: leave out what is not on the CPU.

    Raises:
        InputError: naming the rows.
    """
    for path, leaf in named(values, name):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            continue
        if on_host and leaf.device.type != "cpu":
            continue
        wrong = ~leaf.isfinite() if leaf is values else leaf.isnan()
        rows = wrong.reshape(len(leaf), -1).any(1).nonzero().flatten().tolist()
        if rows:
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            raise InputError(
                f"{path} of row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:5]))}{more} "
                f"contain {'NaN or infinity' if leaf is values else 'NaN'}: clean the data first"
            )


def reference(outputs: Any, batch: int, passes: int) -> Any:
    """Return the rows of the reference pass, of every tensor that has rows of all passes."""
    if isinstance(outputs, Tensor):
        stacks = outputs.dim() > 0 and len(outputs) == passes * batch
        return (outputs[:batch] if stacks else outputs).detach()
    return mapped(
        outputs, lambda leaf: reference(leaf, batch, passes) if isinstance(leaf, Tensor) else leaf
    )
