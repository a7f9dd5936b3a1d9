"""Normalisations: their values without gain and offset, and the products of these two.

A normalisation is a = γ x̂ + β with one γ and β per channel or component, so that
∂L/∂γ = Σ credit x̂ and ∂L/∂β = Σ credit, over all positions that share them.
"""

from __future__ import annotations

from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from noisynets.core.outer.registry import outer


@singledispatch
def normalised(layer: nn.Module, x: Tensor, reference: Tensor | None = None) -> Tensor:
    """Return x̂ (R, *in) of rows x (R, *in): the normalisation without its gain and offset.

    Args:
        layer: a normalisation.
        x: its input.
        reference: the rows of which BatchNorm in training mode takes its statistics, (B, *in);
            None: x itself.

    Raises:
        NotImplementedError: for a layer that is no normalisation.

    >>> normalised(nn.LayerNorm(2, eps=0), torch.tensor([[1.0, 3.0]]))
    tensor([[-1.,  1.]])
    """
    raise NotImplementedError(f"{type(layer).__name__} is no normalisation")


@normalised.register
def _layer_norm(layer: nn.LayerNorm, x: Tensor, reference: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, eps=layer.eps)


@normalised.register
def _rms_norm(layer: nn.RMSNorm, x: Tensor, reference: Tensor | None = None) -> Tensor:
    return F.rms_norm(x, layer.normalized_shape, eps=layer.eps)


@normalised.register
def _group_norm(layer: nn.GroupNorm, x: Tensor, reference: Tensor | None = None) -> Tensor:
    return F.group_norm(x, layer.num_groups, eps=layer.eps)


@normalised.register
def _instance_norm(layer: _InstanceNorm, x: Tensor, reference: Tensor | None = None) -> Tensor:
    if has_running(layer) and not layer.training:
        return _fixed(layer, x)
    return F.instance_norm(x, eps=layer.eps)


@normalised.register
def _batch_norm(layer: _BatchNorm, x: Tensor, reference: Tensor | None = None) -> Tensor:
    if has_running(layer) and not layer.training:
        return _fixed(layer, x)
    rows = x if reference is None else reference
    over = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(rows, over, correction=0, keepdim=True)
    return (x - mean) * (variance + layer.eps).rsqrt()


def is_norm(layer: nn.Module) -> bool:
    """Return True for a normalisation.

    >>> is_norm(nn.GroupNorm(1, 2)), is_norm(nn.Linear(2, 2))
    (True, False)
    """
    return normalised.dispatch(type(layer)) is not normalised.dispatch(object)


def gain_shape(layer: nn.Module, dims: int) -> tuple[int, ...]:
    """Return the shape in which a normalisation's gain multiplies activities of `dims` dimensions.

    >>> gain_shape(nn.GroupNorm(1, 2), 4), gain_shape(nn.LayerNorm((3, 2)), 4)
    ((2, 1, 1), (3, 2))
    """
    assert isinstance(layer.weight, Tensor), "a node has a gain"
    own = tuple(layer.weight.shape)
    return own if hasattr(layer, "normalized_shape") else (*own, *[1] * (dims - 2))


def has_running(layer: nn.Module) -> bool:
    """Return True if a normalisation keeps running statistics.

    >>> has_running(nn.BatchNorm1d(2)), has_running(nn.InstanceNorm1d(2))
    (True, False)
    """
    return getattr(layer, "running_mean", None) is not None


def _fixed(layer: _BatchNorm | _InstanceNorm, x: Tensor) -> Tensor:
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None and variance is not None, "asked before"
    shape = (-1, *[1] * (x.dim() - 2))
    return (x - mean.view(shape)) * (variance.view(shape) + layer.eps).rsqrt()


@outer.register(nn.LayerNorm)
@outer.register(nn.RMSNorm)
def _over_rows(layer: nn.LayerNorm | nn.RMSNorm, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    rows = list(range(x.dim() - len(layer.normalized_shape)))
    return {"weight": (credit * normalised(layer, x)).sum(rows), "bias": credit.sum(rows)}


def _per_channel(layer: nn.Module, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    rows = [d for d in range(x.dim()) if d != 1]
    return {"weight": (credit * normalised(layer, x)).sum(rows), "bias": credit.sum(rows)}


for _kind in (
    *(nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
):
    outer.register(_kind, _per_channel)
