"""Types. n environments are n rows of a batch; a single environment is a batch of one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

Values: TypeAlias = float | Sequence[float] | Array
"""A setting of a channel: one number for all components of a signal, or one for each."""

Parameter: TypeAlias = float | Array
"""A physical parameter: one number for all rows, or one for each, (n,)."""

Info: TypeAlias = dict[str, Any]
