"""The geometry of transposed convolutions.

An output is the product of one kernel per group with the inputs that reach its position; a tap
whose place lies between two inputs, because of the stride, has the input 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from noisynets.core.errors import SystemRefused
from noisynets.rules.credit.products.geometry import adjoint, as_map, forward, shown
from noisynets.rules.credit.products.patches import Places, chosen, within

_FORWARD: tuple[Callable[..., Tensor], ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
_BACK: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
"""By the number of dimensions, less one."""


@shown.register(nn.ConvTranspose1d)
@shown.register(nn.ConvTranspose2d)
@shown.register(nn.ConvTranspose3d)
def _shown(
    layer: _ConvTransposeNd, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    padding, places = _padding(layer), list[Places]()
    if _forward_size(layer, inputs.shape[2:]) != outputs.shape[2:]:
        raise SystemRefused(f"{layer}: called with output_size: give it its output_padding instead")
    for i, kernel in enumerate(layer.kernel_size):
        start = torch.arange(outputs.shape[2 + i], device=inputs.device) + padding[i]
        tap = torch.arange(kernel, device=inputs.device) * layer.dilation[i]
        place = start.unsqueeze(1) - tap
        at, there = within(place.div(layer.stride[i], rounding_mode="floor"), inputs.shape[2 + i])
        places.append((at, there & (place % layer.stride[i] == 0)))
    return chosen(layer, inputs, outputs, places, rows, update)


@adjoint.register(nn.ConvTranspose1d)
@adjoint.register(nn.ConvTranspose2d)
@adjoint.register(nn.ConvTranspose3d)
def _adjoint(layer: _ConvTransposeNd, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    back = _BACK[len(layer.kernel_size) - 1]
    kernel, padding = _kernel(layer, m), _padding(layer)
    found = back(credit, kernel, None, layer.stride, padding, layer.dilation, layer.groups)
    for dim, size in enumerate(shape[2:], 2):  # output padding may leave room for more
        found = found.narrow(dim, 0, size)
    return found


@forward.register(nn.ConvTranspose1d)
@forward.register(nn.ConvTranspose2d)
@forward.register(nn.ConvTranspose3d)
def _forward(layer: _ConvTransposeNd, m: Tensor, x: Tensor) -> Tensor:
    product = _FORWARD[len(layer.kernel_size) - 1]
    kernel, padding = _kernel(layer, m), _padding(layer)
    more = layer.output_padding
    return product(x, kernel, None, layer.stride, padding, more, layer.groups, layer.dilation)


@as_map.register(nn.ConvTranspose1d)
@as_map.register(nn.ConvTranspose2d)
@as_map.register(nn.ConvTranspose3d)
def _as_map(layer: _ConvTransposeNd, weight: Tensor) -> Tensor:
    split = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(2)
    return split[0] if layer.groups == 1 else split


def _kernel(layer: _ConvTransposeNd, m: Tensor) -> Tensor:
    """Return M as the weight of the layer: (in, out/groups, *kernel)."""
    groups, inputs = layer.groups, layer.in_channels // layer.groups
    split = m.reshape(groups, -1, inputs, *layer.kernel_size).transpose(1, 2)
    return split.flatten(0, 1)


def _forward_size(layer: _ConvTransposeNd, size: torch.Size) -> torch.Size:
    """Return the size of the output that the settings of the layer give."""
    geometry = (layer.kernel_size, layer.stride, layer.dilation, layer.output_padding)
    steps = zip(size, _padding(layer), *geometry, strict=True)
    return torch.Size((n - 1) * s - 2 * p + d * (k - 1) + more + 1 for n, p, k, s, d, more in steps)


def _padding(layer: _ConvTransposeNd) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str), "for convolutions alone"
    return tuple(layer.padding)
