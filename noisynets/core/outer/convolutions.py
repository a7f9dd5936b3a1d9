"""Products of convolutions and transposed convolutions, with one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from noisynets.core.outer.registry import outer

_WEIGHT: tuple[Callable[..., Tensor], ...] = (conv1d_weight, conv2d_weight, conv3d_weight)
"""By the number of dimensions, less one."""


@outer.register(nn.Conv1d)
@outer.register(nn.Conv2d)
@outer.register(nn.Conv3d)
def _convolution(layer: _ConvNd, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    x, padding = padded(layer, x)
    product = _WEIGHT[len(layer.kernel_size) - 1]
    weight = product(
        x, layer.weight.shape, credit, layer.stride, padding, layer.dilation, layer.groups
    )
    return {"weight": weight, "bias": _over_positions(credit)}


@outer.register(nn.ConvTranspose1d)
@outer.register(nn.ConvTranspose2d)
@outer.register(nn.ConvTranspose3d)
def _transposed(layer: _ConvTransposeNd, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    """Exchange the parts: x is the output of the convolution whose adjoint the layer is."""
    assert not isinstance(layer.padding, str), "for convolutions alone"
    ends: list[int] = []
    for i, (k, p) in enumerate(zip(layer.kernel_size, layer.padding, strict=True)):
        span = layer.dilation[i] * (k - 1) + 1
        size = (credit.shape[2 + i] + 2 * p - span) // layer.stride[i] + 1
        ends = [0, size - x.shape[2 + i], *ends]  # positions that the layer has no input for
    x = F.pad(x, ends)
    product = _WEIGHT[len(layer.kernel_size) - 1]
    weight = product(
        credit, layer.weight.shape, x, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return {"weight": weight, "bias": _over_positions(credit)}


def _over_positions(credit: Tensor) -> Tensor:
    return credit.sum([d for d in range(credit.dim()) if d != 1])


def padded(layer: _ConvNd, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return the padded input of a convolution, and the zero padding that is left to it.

    'same' padding and modes other than zeros are applied here; plain zero padding is left to the
    convolution.
    """
    if layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        return x, tuple(layer.padding)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    return x, (0,) * len(layer.kernel_size)
