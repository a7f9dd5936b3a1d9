"""Places: where the numbers of a tensor are in memory."""

from __future__ import annotations

from torch import Tensor

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Of a tensor in its storage: offset, shape, strides."""

Key = tuple[int, Place]
"""Storage, and place there."""


def place(tensor: Tensor) -> Key:
    """Return the place of a tensor in memory."""
    return tensor.untyped_storage()._cdata, place_inside(tensor)


def place_inside(tensor: Tensor) -> Place:
    """Return the place of a tensor in its storage."""
    return int(tensor.storage_offset()), tensor.shape, tensor.stride()
