"""A network to measure, with its batches and its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from noisynets.core.losses import cross_entropy, sequence_cross_entropy

CLASSES = 10
SYMBOLS = 27
"""Different characters of a text."""

Batch = Callable[[Generator], tuple[Tensor, Tensor]]
"""generator → inputs (B, ...), targets (B, ...)."""


@dataclass(frozen=True)
class Network:
    """A network whose credit is compared with autograd's gradient.

    Attributes:
        name: as `--only` names it.
        build: () → the module, with weights from PyTorch's global generator. An ImportError means
            that a package is missing, and the network is left out.
        batch: draws a batch.
        loss: (outputs, targets) → (B,).
        sigma: of the injected noise.
        note: what the reader of the table has to know.
    """

    name: str
    build: Callable[[], nn.Module]
    batch: Batch
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy
    sigma: float = 1e-2
    note: str = ""


@dataclass(frozen=True)
class Gaussian:
    """Batches of N(μ, 1) for the mean μ of one of ten classes, itself drawn from N(0, scale²).

    Attributes:
        batch: B.
        shape: of one example: a picture (channels, height, width) or a sequence (T, features).
        scale: distance of the classes.

    >>> x, y = Gaussian(4, (3, 8, 8))(torch.Generator())
    >>> x.shape, y.shape
    (torch.Size([4, 3, 8, 8]), torch.Size([4]))
    """

    batch: int
    shape: tuple[int, ...]
    scale: float = 1.0

    def __call__(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw inputs (B, *shape) and classes (B,)."""
        fixed = Generator().manual_seed(1)
        means = self.scale * torch.randn(CLASSES, *self.shape, generator=fixed)
        y = torch.randint(CLASSES, (self.batch,), generator=generator)
        return means[y] + torch.randn(self.batch, *self.shape, generator=generator), y


@dataclass(frozen=True)
class Maps:
    """Batches of pictures, with a class for every pixel: the brightest channel around it.

    Attributes:
        batch: B.
        channels: of the pictures, and classes of the pixels.
        size: height and width.
    """

    batch: int
    channels: int
    size: int

    def __call__(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw inputs (B, channels, size, size) and classes (B, size, size)."""
        shape = (self.batch, self.channels, self.size, self.size)
        x = torch.randn(shape, generator=generator)
        return x, F.avg_pool2d(x, 3, stride=1, padding=1).argmax(1)


@dataclass(frozen=True)
class Text:
    """Batches of characters from a Markov chain, and the characters that follow them.

    Attributes:
        batch: B.
        length: T.

    >>> x, y = Text(2, 8)(torch.Generator())
    >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all())
    (torch.Size([2, 8]), True)
    """

    batch: int
    length: int

    def __call__(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw characters (B, T), and the next ones (B, T)."""
        fixed = Generator().manual_seed(1)
        follows = (2 * torch.randn(SYMBOLS, SYMBOLS, generator=fixed)).softmax(1)
        symbols = [torch.randint(SYMBOLS, (self.batch,), generator=generator)]
        for _ in range(self.length):
            symbols.append(follows[symbols[-1]].multinomial(1, generator=generator)[:, 0])
        drawn = torch.stack(symbols, 1)
        return drawn[:, :-1], drawn[:, 1:]


def per_position(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of a row's positions: outputs (R, T, n), targets (R, T) → (R,).

    >>> per_position(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)).tolist()
    [1.3862943649291992, 1.3862943649291992]
    """
    return sequence_cross_entropy(outputs, targets).sum(1)


def per_pixel(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of a row's pixels: outputs (R, n, H, W), targets (R, H, W) → (R,)."""
    return F.cross_entropy(outputs, targets, reduction="none").mean((1, 2))
