"""Products: the geometry of a layer's linear map, for each type of layer that can be mirrored."""

from __future__ import annotations

from functools import singledispatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_input, conv2d_input

from noisynets.core.outer import padded


@singledispatch
def shown(
    layer: nn.Module, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Return single products to learn from: inputs (rows, n_in) and outputs (rows, n_out)."""
    raise NotImplementedError(f"no mirror is known for {type(layer).__name__}")


@singledispatch
def adjoint(layer: nn.Module, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    """Mᵀ credit for the geometry of `layer`."""
    raise NotImplementedError


@singledispatch
def forward(layer: nn.Module, m: Tensor, x: Tensor) -> Tensor:
    """M x for the geometry of `layer`."""
    raise NotImplementedError


def has_mirror(layer: nn.Module) -> bool:
    """Return True if a mirror can be learnt of a layer's map."""
    known = shown.dispatch(type(layer)) is not shown.dispatch(object)
    plain = getattr(layer, "groups", 1) == 1 and getattr(layer, "padding_mode", "zeros") == "zeros"
    return known and plain and not isinstance(getattr(layer, "padding", 0), str)


@shown.register
def _shown_linear(
    layer: nn.Linear, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    x, a = inputs.flatten(0, -2), outputs.flatten(0, -2)
    if inputs.dim() == 2:
        return x[:rows], a[:rows]
    index = _spread(len(x), rows, update, x.device)
    return x[index], a[index]


def _spread(n: int, rows: int, update: int, device: torch.device) -> Tensor:
    """`rows` indices below n, spread evenly, and others at every update."""
    golden = (5**0.5 - 1) / 2
    steps = torch.arange(rows, dtype=torch.float64, device=device) + update * rows
    return ((steps * golden).frac() * n).long().clamp_max(n - 1)


@adjoint.register
def _adjoint_linear(layer: nn.Linear, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    return credit @ m


@forward.register
def _forward_linear(layer: nn.Linear, m: Tensor, x: Tensor) -> Tensor:
    return x @ m.T


@shown.register
def _shown_conv2d(
    layer: nn.Conv2d, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    """Patches spread over pictures and positions, others at every update."""
    x, padding = padded(layer, inputs[:rows])
    patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    patches = patches.transpose(1, 2).flatten(0, 1)
    a = outputs[:rows].flatten(2).transpose(1, 2).flatten(0, 1)
    index = _spread(len(a), rows, update, x.device)
    return patches[index], a[index]


@adjoint.register
def _adjoint_conv2d(layer: nn.Conv2d, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return conv2d_input(shape, kernel, credit, layer.stride, layer.padding, layer.dilation)


@forward.register
def _forward_conv2d(layer: nn.Conv2d, m: Tensor, x: Tensor) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return F.conv2d(x, kernel, None, layer.stride, layer.padding, layer.dilation)


@shown.register
def _shown_conv1d(
    layer: nn.Conv1d, inputs: Tensor, outputs: Tensor, rows: int, update: int
) -> tuple[Tensor, Tensor]:
    two = nn.Conv2d(
        1,
        1,
        (1, layer.kernel_size[0]),
        (1, layer.stride[0]),
        (0, int(layer.padding[0])),
        (1, layer.dilation[0]),
        device="meta",
    )
    return _shown_conv2d(two, inputs.unsqueeze(2), outputs.unsqueeze(2), rows, update)


@adjoint.register
def _adjoint_conv1d(layer: nn.Conv1d, m: Tensor, credit: Tensor, shape: torch.Size) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return conv1d_input(shape, kernel, credit, layer.stride, layer.padding, layer.dilation)


@forward.register
def _forward_conv1d(layer: nn.Conv1d, m: Tensor, x: Tensor) -> Tensor:
    kernel = m.view(layer.out_channels, layer.in_channels, *layer.kernel_size)
    return F.conv1d(x, kernel, None, layer.stride, layer.padding, layer.dilation)
