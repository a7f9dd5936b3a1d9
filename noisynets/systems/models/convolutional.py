"""Convolutional networks: one without pooling, LeNet, and one with a pooling per layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.utils import skip_init

from noisynets.core.errors import InputError
from noisynets.systems.models.build import Norm, Unit, dressed
from noisynets.systems.settings import NetworkSettings


def conv(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit = "leaky",
    norm: Norm | None = None,
) -> nn.Sequential:
    """Convolutions of 3×3, stride 2, one for every hidden width, with units; then Linear.

    A norm stands before all units.

    >>> import torch
    >>> conv((1, 28, 28), 10, NetworkSettings(hidden=(8, 16)))(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    channels, height, width = picture(input_shape)
    layers: list[nn.Module] = []
    for n in build.widths:
        layers.append(skip_init(nn.Conv2d, channels, n, 3, stride=2, padding=1))
        channels, height, width = n, (height + 1) // 2, (width + 1) // 2
    layers.append(skip_init(nn.Linear, channels * height * width, outputs))
    *hidden, (last, _) = dressed(layers, build, unit, norm=norm)
    return nn.Sequential(*(m for pair in hidden for m in pair), nn.Flatten(), last)


def lenet(
    input_shape: Sequence[int], outputs: int, build: NetworkSettings, unit: str | Unit = "leaky"
) -> nn.Sequential:
    """LeNet-5 (LeCun et al., 1998): two convolutions of 5×5 with average pooling, then Linear.

    The first two hidden widths are channels, the others those of linear layers.

    >>> import torch
    >>> settings = NetworkSettings(hidden=(6, 16, 120, 84))
    >>> lenet((1, 28, 28), 10, settings)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    return _pooled(input_shape, outputs, build, unit, nn.AvgPool2d, kernel=5, convolutions=2)


def vgg(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit = "leaky",
    pool: type[nn.Module] = nn.MaxPool2d,
) -> nn.Sequential:
    """Convolutions of 3×3, as Simonyan and Zisserman (2015), each with pooling; then Linear.

    Args:
        input_shape: (channels, height, width).
        outputs: of the last layer.
        build: settings; a convolution for every hidden width.
        unit: of every hidden layer.
        pool: of 2×2, as long as there is something to pool.

    >>> import torch
    >>> vgg((3, 32, 32), 10, NetworkSettings(hidden=(8, 8, 8)))(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    n = len(build.widths)
    return _pooled(input_shape, outputs, build, unit, pool, kernel=3, convolutions=n)


def _pooled(
    input_shape: Sequence[int],
    outputs: int,
    build: NetworkSettings,
    unit: str | Unit,
    pool: type[nn.Module],
    *,
    kernel: int,
    convolutions: int,
) -> nn.Sequential:
    channels, height, width = picture(input_shape)
    layers: list[nn.Module] = []
    pools: list[bool] = []
    for n in build.widths[:convolutions]:
        layers.append(skip_init(nn.Conv2d, channels, n, kernel, padding=kernel // 2))
        pools.append(min(height, width) > 1)
        shrink = 2 if pools[-1] else 1
        channels, height, width = n, height // shrink, width // shrink
    widths = [channels * height * width, *build.widths[convolutions:], outputs]
    layers += [skip_init(nn.Linear, n, m) for n, m in zip(widths, widths[1:], strict=False)]
    pairs = dressed(layers, build, unit)
    modules: list[nn.Module] = []
    for (node, units), pooled in zip(pairs, pools, strict=False):
        modules += [node, units, *([pool(2)] if pooled else [])]
    *dense, (last, _) = pairs[len(pools) :]
    return nn.Sequential(*modules, nn.Flatten(), *(m for pair in dense for m in pair), last)


def picture(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return channels, height and width of inputs.

    Raises:
        InputError: for inputs that are no pictures.
    """
    if len(input_shape) != 3:
        raise InputError(
            f"inputs of shape {tuple(input_shape)}: a convolutional system needs pictures, "
            "(channels, height, width)"
        )
    channels, height, width = input_shape
    return channels, height, width
