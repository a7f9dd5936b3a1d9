"""The nir package, errors that name a node, and constants of nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.core.pages import Page

DT = 1e-4
"""Δt in seconds where nothing else is said, as in snnTorch."""
TOLERANCE = 1e-6
"""Relative; constants of NIR files often have the precision of float32."""

Array = NDArray[np.float64]


def nir_package() -> Any:
    """Import nir.

    Raises:
        MissingPackages: if it is not installed.
    """
    with extra("nir", "NIR"):
        import nir
    return nir


def refused(name: str, kind: str, problem: str) -> InputError:
    """Return the error about one node or module.

    >>> print(refused("3", "MaxPool2d", "has no equivalent in NIR"))
    '3' (MaxPool2d): has no equivalent in NIR (see docs/how-to/spiking.md#nir-graphs)
    """
    return InputError(f"{name!r} ({kind}): {problem}", page=Page.NIR)


def checked_step(dt: float) -> float:
    """Return Δt.

    Raises:
        InputError: unless it is positive and finite.
    """
    found = float(dt)
    if not 0 < found < float("inf"):
        raise InputError(f"dt {dt} must be positive and finite, in seconds", page=Page.NIR)
    return found


def close(a: Any, b: Any) -> bool:
    """Return True if two constants are equal up to the rounding of float32."""
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=1e-12))


def array(value: Any) -> Array:
    """Return a constant in float64.

    Raises:
        ValueError: if it is no number, or not finite.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    found: Array = np.asarray(value, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError("contains NaN or infinity")
    return found


def constant(value: Array, dtype: torch.dtype) -> float | Tensor:
    """Return one number if all neurons have the same, else a tensor with one each."""
    flat = value.ravel()
    if flat.size and (flat == flat[0]).all():
        return float(flat[0])
    return torch.as_tensor(value).to(dtype)
