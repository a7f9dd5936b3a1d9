"""The geometry of convolutions: a product is that of a patch and the kernels of its group."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input
from torch.nn.modules.conv import _ConvNd

from noisynets.core.outer import padded
from noisynets.rules.credit.products.geometry import adjoint, as_map, forward, shown
from noisynets.rules.credit.products.patches import Places, chosen, within
from noisynets.rules.credit.vjp import vjp

_FORWARD: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
_INPUT: tuple[Callable[..., Tensor], ...] = (conv1d_input, conv2d_input, conv3d_input)
"""By the number of dimensions, less one."""


@shown.register(nn.Conv1d)
@shown.register(nn.Conv2d)
@shown.register(nn.Conv3d)
def _shown(
    layer: _ConvNd, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    x, padding = padded(layer, inputs[:rows])
    places: list[Places] = []
    for i, kernel in enumerate(layer.kernel_size):
        start = torch.arange(outputs.shape[2 + i], device=x.device) * layer.stride[i] - padding[i]
        tap = torch.arange(kernel, device=x.device) * layer.dilation[i]
        places.append(within(start.unsqueeze(1) + tap, x.shape[2 + i]))
    return chosen(layer, x, outputs, places, rows, update)


@adjoint.register(nn.Conv1d)
@adjoint.register(nn.Conv2d)
@adjoint.register(nn.Conv3d)
def _adjoint(layer: _ConvNd, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    back = _INPUT[len(layer.kernel_size) - 1]
    whole, padding = padded(layer, torch.empty(shape, device="meta"))
    found = back(
        whole.shape, _kernel(layer, m), credit, layer.stride, padding, layer.dilation, layer.groups
    )
    if whole.shape == shape:
        return found
    return vjp(lambda x: padded(layer, x)[0], credit.new_zeros(shape), found)


@forward.register(nn.Conv1d)
@forward.register(nn.Conv2d)
@forward.register(nn.Conv3d)
def _forward(layer: _ConvNd, m: Tensor, x: Tensor) -> Tensor:
    product = _FORWARD[len(layer.kernel_size) - 1]
    x, padding = padded(layer, x)
    kernel = _kernel(layer, m)
    return product(x, kernel, None, layer.stride, padding, layer.dilation, layer.groups)


@as_map.register(nn.Conv1d)
@as_map.register(nn.Conv2d)
@as_map.register(nn.Conv3d)
def _as_map(layer: _ConvNd, weight: Tensor) -> Tensor:
    flat = weight.flatten(1)
    return flat if layer.groups == 1 else flat.unflatten(0, (layer.groups, -1))


def _kernel(layer: _ConvNd, m: Tensor) -> Tensor:
    """Return M as the weight of the layer: (out, in/groups, *kernel)."""
    inputs = layer.in_channels // layer.groups
    return m.reshape(layer.out_channels, inputs, *layer.kernel_size)
