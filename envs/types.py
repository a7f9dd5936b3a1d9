"""The vocabulary: n environments are n rows; a single environment is a batch of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

Values: TypeAlias = float | Sequence[float] | Array
"""One number for all components of a signal, or one for each."""

Parameter: TypeAlias = float | Array
"""Of the physics: one number for all rows, or one for each, (n,)."""

Info: TypeAlias = dict[str, Any]
