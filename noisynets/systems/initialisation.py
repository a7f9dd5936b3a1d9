"""Standard deviations of initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable

from noisynets.core.registry import Registry


def he(fan_in: int, fan_out: int) -> float:
    """√(2/fan_in), the standard deviation of He et al. (2015)."""
    return math.sqrt(2 / fan_in)


def lecun(fan_in: int, fan_out: int) -> float:
    """√(1/fan_in), the standard deviation of LeCun et al. (1998)."""
    return math.sqrt(1 / fan_in)


def xavier(fan_in: int, fan_out: int) -> float:
    """√(2/(fan_in + fan_out)), the standard deviation of Glorot and Bengio (2010)."""
    return math.sqrt(2 / (fan_in + fan_out))


def gpt2(fan_in: int, fan_out: int) -> float:
    """0.02 in all layers, the standard deviation of GPT-2 (Radford et al., 2019)."""
    return 0.02


INITIALISATIONS: Registry[Callable[[int, int], float]] = Registry(
    "initialisation", (he, lecun, xavier, gpt2)
)
"""(fan-in, fan-out) → the standard deviation of normal initial weights."""
