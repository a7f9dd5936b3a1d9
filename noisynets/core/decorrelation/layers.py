"""Decorrelated layers: layer(R (x − m)), for Linear and Conv2d."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.grad import conv2d_weight

from noisynets.core.decorrelation.updates import VARIANTS
from noisynets.core.errors import InputError, SystemRefused, unknown
from noisynets.core.outer import outer, padded
from noisynets.core.types import Wrapper

GOLDEN = (5**0.5 - 1) / 2


class Settings(TypedDict, total=False):
    """Keyword arguments of `Decorrelated`."""

    rate: float
    variant: str
    demean: bool
    rows: int


class Decorrelated(Wrapper):
    """layer(R (x − m)) for a layer with n input features; abstract, see `decorrelated`.

    Args:
        layer: a layer, or a wrapper of one.
        n: input features of the layer; for a convolution, of one patch.
        rate: learning rate η of R; 1e-4 was best on MNIST networks here, the authors used 1e-3 for
            MNIST and CIFAR networks.
        variant: name of the update, a key of `VARIANTS`.
        demean: subtract m, the running mean of x_raw (momentum 0.1, fixed during evaluation).
        rows: maximum number of rows of the batch per update; for a convolution, of patches, one
            per image.

    Attributes:
        R: (n, n) buffer.
        mean: m, (n,) buffer, 0 unless `demean`.
        updates: number of updates so far.
        unstable: True if an update was skipped because R would have diverged; a buffer on the
            device, so that reading it costs a synchronisation.

    Raises:
        InputError: for an unknown variant, a negative rate, or less than one row.
    """

    deterministic = True
    momentum = 0.1
    R: Tensor
    mean: Tensor
    updates: Tensor
    unstable: Tensor

    def __init__(
        self,
        layer: nn.Module,
        n: int,
        *,
        rate: float = 1e-4,
        variant: str = "offdiag",
        demean: bool = False,
        rows: int = 32,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise unknown("decorrelation variant", variant, VARIANTS)
        if rate < 0 or rows < 1:
            raise InputError(f"decorrelation: rate {rate:g} is negative, or rows {rows} below 1")
        self.layer = layer
        self.rate = rate
        self.variant = variant
        self.demean = demean
        self.rows = rows
        like = next(layer.parameters())
        self.register_buffer("R", torch.eye(n, dtype=like.dtype, device=like.device))
        self.register_buffer("mean", torch.zeros(n, dtype=like.dtype, device=like.device))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=like.device))
        self.register_buffer(
            "unstable", torch.zeros((), dtype=torch.bool, device=like.device), persistent=False
        )

    @property
    def linear(self) -> bool:
        """True: R acts on the inputs alone."""
        return True

    @property
    def matrix(self) -> Tensor:
        """The matrix applied to a column x_raw: R, or Rᵀ if R multiplies from the right."""
        return self.R.T if self.variant == "rescaled" else self.R

    def decorrelate(self, raw: Tensor) -> Tensor:
        """Return R (x_raw − m) for rows (..., n)."""
        return F.linear(raw - self.mean if self.demean else raw, self.matrix)

    @abstractmethod
    def sample(self, raw: Tensor) -> Tensor:
        """Select up to `rows` rows (rows, n) of the layer's input x_raw (B, *in)."""

    @abstractmethod
    def average(self, raw: Tensor) -> Tensor:
        """Return the mean (n,) over all rows of the layer's input x_raw (B, *in)."""

    @torch.no_grad()
    def update_(self, raw: Tensor) -> None:
        """Update R (and m) from the layer's input x_raw (B, *in) in the reference pass.

        An update that is not finite, or larger than half of R in norm, is skipped and recorded in
        `unstable`, so that R never becomes NaN. Cost: 6 rows n² operations.
        """
        rows = self.sample(raw)
        x = self.decorrelate(rows)
        new = VARIANTS[self.variant](self.R, x, rows, self.rate)
        sound = torch.dist(new, self.R) <= 0.5 * self.R.norm()  # False for NaN, too
        self.R.copy_(torch.where(sound, new, self.R))
        self.unstable |= ~sound
        self.updates += 1
        if self.demean:
            mean = self.mean.lerp(self.average(raw), self.momentum)
            self.mean.copy_(torch.where(mean.isfinite().all(), mean, self.mean))

    def spread(self, n: int) -> Tensor:
        """Return `rows` indices below n, evenly spread, and different in every update.

        Multiples of the golden ratio modulo 1 fill an interval evenly for any number of them.
        """
        first = self.updates * self.rows
        steps = torch.arange(self.rows, dtype=torch.float64, device=self.R.device) + first
        return ((steps * GOLDEN).frac() * n).long().clamp_max(n - 1)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"rate={self.rate:g}, variant={self.variant}, demean={self.demean}"


class DecorrelatedLinear(Decorrelated):
    """W (R (x − m)) + b: rows are decorrelated before they are multiplied with the weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer: (B, ..., n_in) → (B, ..., n_out)."""
        output: Tensor = self.layer(self.decorrelate(x))
        return output

    def sample(self, raw: Tensor) -> Tensor:
        """Select the first rows of the batch, whose order is random.

        If every example has several rows, select rows spread over examples and positions.
        """
        if raw.dim() == 2:
            return raw[: self.rows]
        rows = raw.flatten(0, -2)
        return rows[self.spread(len(rows))]

    def average(self, raw: Tensor) -> Tensor:
        """Return the mean over all rows."""
        return raw.flatten(0, -2).mean(0)


class DecorrelatedConv2d(Decorrelated):
    """The convolution with kernel W R: every patch p contributes W R (p − m) + b.

    Multiplying R into the kernel costs n_out n² operations, instead of n² per patch. The input of
    the layer thus remains raw, and its gradient is transformed: ∂L/∂W = (Σ credit ⊗ (p − m)) Rᵀ.
    """

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution inside all wrappers."""
        _, conv = self.core
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution: (B, C, H, W) → (B, C', H', W')."""
        prefix, _ = self.core
        kernel = self.conv.weight.flatten(1) @ self.matrix
        folded = {f"{prefix}weight": kernel.view_as(self.conv.weight)}
        a: Tensor = functional_call(self.layer, folded, (x,))
        return a - (kernel @ self.mean).view(-1, 1, 1) if self.demean else a

    def sample(self, raw: Tensor) -> Tensor:
        """Select patches spread over images and positions."""
        patches = self._patches(raw[: self.rows])
        return patches[self.spread(len(patches))]

    def average(self, raw: Tensor) -> Tensor:
        """Return the mean patch: the weight gradient of one output channel with credit 1."""
        layer = self.conv
        x, padding = padded(layer, raw)
        span = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        size = [
            (n + 2 * p - w - 1) // s + 1
            for n, p, w, s in zip(x.shape[2:], padding, span, layer.stride, strict=True)
        ]
        ones = x.new_ones(len(x), 1, *size)
        shape = (1, *layer.weight.shape[1:])
        total = conv2d_weight(x, shape, ones, layer.stride, padding, layer.dilation)
        return total.flatten() / ones.numel()

    def _patches(self, raw: Tensor) -> Tensor:
        layer = self.conv
        x, padding = padded(layer, raw)
        patches = F.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
        return patches.transpose(1, 2).flatten(0, 1)


@outer.register
def _decorrelated_conv2d(
    module: DecorrelatedConv2d, x: Tensor, credit: Tensor
) -> dict[str, Tensor]:
    prefix, conv = module.core
    raw = outer(conv, x, credit)
    kernel = raw["weight"].flatten(1)
    if module.demean:
        kernel = kernel.addr(raw["bias"], module.mean, alpha=-1)
    weight = (kernel @ module.matrix.T).view_as(module.conv.weight)
    return {f"layer.{prefix}weight": weight, f"layer.{prefix}bias": raw["bias"]}


def decorrelated(layer: nn.Module, **settings: Unpack[Settings]) -> Decorrelated:
    """Wrap a layer, which may be on a device; see `Decorrelated` for the settings.

    Raises:
        SystemRefused: for a layer other than Linear and Conv2d with groups=1.

    >>> decorrelated(nn.Linear(3, 2), rate=0.01)(torch.ones(1, 3)).shape
    torch.Size([1, 2])
    """
    core = layer.core[1] if isinstance(layer, Wrapper) else layer
    if isinstance(core, nn.Linear):
        return DecorrelatedLinear(layer, core.in_features, **settings)
    if isinstance(core, nn.Conv2d) and core.groups == 1:
        return DecorrelatedConv2d(layer, core.weight[0].numel(), **settings)
    raise SystemRefused(f"{core}: only Linear and Conv2d with groups=1 can be decorrelated")
