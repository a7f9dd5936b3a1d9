"""Layers of other packages, known by the name of their class, so that no package is imported."""

from __future__ import annotations

from torch import Tensor, nn

from noisynets.core.outer.registry import BY_NAME

TRANSPOSED = ("transformers.pytorch_utils.Conv1D",)
"""Linear layers that hold their weight as (in, out)."""


def _transposed(layer: nn.Module, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    c = credit.flatten(0, -2)
    return {"weight": x.flatten(0, -2).T @ c, "bias": c.sum(0)}


BY_NAME.update({name: _transposed for name in TRANSPOSED})
