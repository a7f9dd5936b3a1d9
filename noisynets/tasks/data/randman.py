"""Randman: spike times on smooth random manifolds, one manifold per class; generated here.

Every unit fires exactly once, so that only the spike times carry information about the class.

Source: Zenke and Vogels, *The remarkable robustness of surrogate gradient learning for instilling
complex function in spiking neural networks* (Neural Computation 33, 2021); code fzenke/randman.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from noisynets.tasks.data.task import Examples, Task

CLASSES, UNITS, STEPS, DIMENSION, ALPHA = 10, 100, 100, 2, 2.0
PER_CLASS, SEED = 1000, 0


def manifold(coordinates: Tensor, units: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Map points to a higher-dimensional space by a random smooth function.

    For every unit and coordinate, f(x) = Σ_i a_i s_i sin 2π(i x b_i + c_i) with s_i = 1/(i + 1)^α,
    a_i, b_i, c_i ~ U(0, 1) and a_0 = 0. A unit's value is the product of f over the coordinates.

    Args:
        coordinates: (n, D), from 0 to 1.
        units: dimension of the space that contains the manifold.
        alpha: α; larger values give smoother manifolds.
        generator: random generator for a, b and c.

    Returns:
        (n, units), scaled to 0..1 for every unit.

    >>> points = manifold(torch.rand(50, 2), 3, 2.0, torch.Generator().manual_seed(0))
    >>> points.shape, float(points.min()), float(points.max())
    (torch.Size([50, 3]), 0.0, 1.0)
    """
    modes = min(math.ceil(0.001 ** (-1 / alpha)), 1000)
    i = torch.arange(modes, dtype=torch.float32)
    value = torch.ones(len(coordinates), units)
    for x in coordinates.unbind(1):
        a, b, c = torch.rand(3, units, modes, generator=generator)
        a[:, 0] = 0
        phase = 2 * math.pi * (i * x.view(-1, 1, 1) * b + c)
        value = value * (a * (i + 1) ** -alpha * phase.sin()).sum(2)
    low, high = value.amin(0), value.amax(0)
    return (value - low) / (high - low)


def spikes(times: Tensor, steps: int) -> Tensor:
    """Turn spike times into spike trains with one spike per unit.

    Args:
        times: (n, units), from 0 to 1.
        steps: T.

    Returns:
        Spikes (n, T, units), 0 or 1, signed bytes.
    """
    when = (times * (steps - 1)).round().long().unsqueeze(1)
    shape = len(times), steps, times.shape[1]
    return torch.zeros(shape, dtype=torch.int8).scatter_(1, when, 1)


def load(part: str, folder: Path | None = None) -> Examples:
    """Generate the 9,000 examples for training and validation, or the 1,000 test examples.

    Args:
        part: 'train' or 'test'.
        folder: ignored.

    Returns:
        Spikes (n, T, units), signed bytes, and labels (n,), in a fixed random order.
    """
    generator = torch.Generator().manual_seed(SEED)
    times = [
        manifold(torch.rand(PER_CLASS, DIMENSION, generator=generator), UNITS, ALPHA, generator)
        for _ in range(CLASSES)
    ]
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    order = torch.randperm(len(labels), generator=generator)
    order = order[:-PER_CLASS] if part == "train" else order[-PER_CLASS:]
    return Examples(spikes(torch.cat(times)[order], STEPS), labels[order])


RANDMAN = Task(
    name="randman",
    summary="spike times on random manifolds; 8,000 train, 1,000 validation, 1,000 test",
    input_shape=(UNITS,),
    classes=CLASSES,
    load=load,
    validation=1000,
    steps=STEPS,
    reference="surrogate gradients, measured with this package: docs/results/spiking.md",
)
