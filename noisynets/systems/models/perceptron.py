"""Perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn
from torch.nn.utils import skip_init

from noisynets.systems.models.build import Unit, dressed
from noisynets.systems.settings import NetworkSettings


def mlp(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit = "leaky",
    recurrent: bool = False,
) -> nn.Sequential:
    """Flatten, then Linear and units for every hidden width, then Linear.

    Recurrent: the units are neurons, whose spikes come back to their layer in the next step.

    >>> import torch
    >>> mlp((1, 28, 28), 10, NetworkSettings(hidden=(64, 64)))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    widths = [math.prod(input_shape), *build.widths, outputs]
    layers = [skip_init(nn.Linear, n, m) for n, m in zip(widths, widths[1:], strict=False)]
    loops = [skip_init(nn.Linear, n, n) for n in build.widths if recurrent]
    *hidden, (last, _) = dressed(layers, build, unit, loops)
    return nn.Sequential(nn.Flatten(), *(m for pair in hidden for m in pair), last)
