"""Batches of a user's own data: tensors, a Dataset or a DataLoader, resumable at every step."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from noisynets.core.errors import InputError
from noisynets.core.noise import generator
from noisynets.core.trees import leaves, mapped


class Source(Protocol):
    """Batches of an epoch.

    Attributes:
        steps: of an epoch.
        batch_size: B; None: batches are made in another way.
    """

    steps: int
    batch_size: int | None

    def epoch(self, number: int, start: int) -> Iterator[Any]:
        """Return the batches of an epoch from a step on."""

    def state(self) -> Any:
        """Return what is needed to make the present epoch's batches again."""

    def restore(self, state: Any) -> None:
        """Continue from a `state`."""


class Ordered:
    """Batches in an order that is a function of seed and epoch alone.

    Args:
        data: inputs and targets, trees of tensors (n, ...); or a Dataset with a length.
        batch_size: B.
        seed: of the order; None: as they are.
    """

    def __init__(self, data: Any, batch_size: int, seed: int | None) -> None:
        self.data, self.seed = data, seed
        self.batch_size: int | None = batch_size
        self.n = len(data) if isinstance(data, Dataset) else _rows(data)  # type: ignore[arg-type]
        if self.n == 0:
            raise InputError("data: there are no examples")
        self.steps, self._size = math.ceil(self.n / batch_size), batch_size

    def epoch(self, number: int, start: int) -> Iterator[Any]:
        """Return the batches of an epoch from a step on."""
        order = torch.arange(self.n)
        if self.seed is not None:
            drawn_by = generator(self.seed, f"order of the examples in epoch {number}")
            order = torch.randperm(self.n, generator=drawn_by)
        left = order.split(self._size)[start:]
        if isinstance(self.data, Dataset):
            indices: Any = [index.tolist() for index in left]
            return iter(DataLoader(self.data, batch_sampler=indices, generator=torch.Generator()))
        return (_chosen(self.data, index) for index in left)

    def state(self) -> Any:
        """Return the state of the global generators, which models and Datasets may use."""
        return randomness()

    def restore(self, state: Any) -> None:
        """Continue from a `state`."""
        set_randomness(state)


class Loaded:
    """Batches of a DataLoader, whose order depends on random generators.

    A resumed epoch begins with the generators as they were at its start, and skips batches.

    Args:
        loader: with a length.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        try:
            self.loader, self.steps = loader, len(loader)
        except TypeError as error:
            raise InputError(
                "data: the DataLoader has no length: give a Dataset with one"
            ) from error
        self.batch_size = loader.batch_size
        if self.steps == 0:
            raise InputError("data: the DataLoader has no batches")
        self._start: Any = None

    def epoch(self, number: int, start: int) -> Iterator[Any]:
        """Return the batches of an epoch from a step on."""
        if hasattr(self.loader.sampler, "set_epoch"):
            self.loader.sampler.set_epoch(number)
        if start == 0:
            self._start = self._generators()
            return iter(self.loader)
        now = self._generators()
        self._set(self._start)
        batches = iter(self.loader)
        for _ in islice(batches, start):
            pass
        self._set(now)
        return batches

    def state(self) -> Any:
        """Return the generators, now and at the start of the epoch."""
        return {"now": self._generators(), "start": self._start}

    def restore(self, state: Any) -> None:
        """Continue from a `state`."""
        self._start = state["start"]
        self._set(state["now"])

    def _own(self) -> list[torch.Generator]:
        found = (self.loader.generator, getattr(self.loader.sampler, "generator", None))
        return [g for g in found if g is not None]

    def _generators(self) -> Any:
        return {"own": [g.get_state() for g in self._own()], "shared": randomness()}

    def _set(self, state: Any) -> None:
        for drawn_by, value in zip(self._own(), state["own"], strict=True):
            drawn_by.set_state(value)
        set_randomness(state["shared"])


def source(data: Any, batch_size: int, seed: int | None) -> Source:
    """Return the batches of data.

    Args:
        data: a DataLoader, a Dataset, or (inputs, targets), trees of tensors (n, ...).
        batch_size: B; not used with a DataLoader.
        seed: of the order; None: as they are.

    Raises:
        InputError: if it is none of these, or has no length or no examples.
    """
    if isinstance(data, DataLoader):
        return Loaded(data)
    if batch_size < 1:
        raise InputError(f"batch_size {batch_size} must be at least 1")
    pair = isinstance(data, tuple | list) and len(data) == 2
    if pair or (isinstance(data, Dataset) and hasattr(data, "__len__")):
        return Ordered(tuple(data) if pair else data, batch_size, seed)
    raise InputError(
        f"data is a {type(data).__name__}: give (inputs, targets), a Dataset with a length, or a "
        "DataLoader"
    )


def randomness() -> dict[str, Any]:
    """Return the state of the global generators of PyTorch, NumPy and Python."""
    numpy: Any = np.random.get_state(legacy=False)
    numpy = numpy | {"state": {k: np.asarray(v).tolist() for k, v in numpy["state"].items()}}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "numpy": numpy,
        "python": random.getstate(),
    }


def set_randomness(state: dict[str, Any]) -> None:
    """Continue with global generators from a state of `randomness`."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    numpy = state["numpy"]
    key = np.asarray(numpy["state"]["key"], dtype=np.uint32)
    np.random.set_state(numpy | {"state": numpy["state"] | {"key": key}})
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))


def pair(batch: Any, device: torch.device) -> tuple[Any, Any]:
    """Return the inputs and targets of a batch, on a device.

    Raises:
        InputError: if it is no pair.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise InputError(
            f"data: a batch is a {type(batch).__name__}, not (inputs, targets): let the Dataset "
            "return such pairs (each may be a dict), or give a collate_fn to the DataLoader"
        )

    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    return mapped(batch[0], move), mapped(batch[1], move)


def _chosen(data: Any, index: Tensor) -> Any:
    return mapped(data, lambda t: t[index.to(t.device)])


def _rows(data: Any) -> int:
    """Return the length that all tensors of a tree have."""
    found = {len(t) if t.dim() else 0 for t in leaves(data)}
    if len(found) != 1:
        lengths = ", ".join(map(str, sorted(found))) or "no tensors"
        raise InputError(f"data: inputs and targets must have one length, found {lengths}")
    return found.pop()
