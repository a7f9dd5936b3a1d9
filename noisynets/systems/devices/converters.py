"""Analog-to-digital and digital-to-analog converters: quantisation and clipping."""

from __future__ import annotations

from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.types import Effect
from noisynets.systems.checks import positive


def quantise(value: Tensor, bits: int, bound: Tensor | float) -> Tensor:
    """Round to the nearest of 2^bits − 1 levels from −bound to bound; clip values outside.

    The step is 2 bound/(2^bits − 2), so that 0 is a level, as in aihwkit's
    `simulator/parameters/io.py`. The gradient is that of the clipping alone: rounding is ignored.

    Args:
        value: of any shape.
        bits: at least 2.
        bound: positive, in the units of `value`; may be a tensor that broadcasts.

    >>> import torch
    >>> quantise(torch.tensor([-9.0, -0.3, 0.2, 0.6, 2.0]), bits=2, bound=1.0)
    tensor([-1.,  0.,  0.,  1.,  1.])
    """
    half = 2 ** (bits - 1) - 1
    clipped = (value / bound).clamp(-1, 1)
    rounded = clipped + ((clipped * half).round() / half - clipped).detach()
    return rounded * bound


def check_bits(bits: int) -> int:
    """Return the number of bits.

    Raises:
        InputError: for less than 2 bits, which leave no level beside 0.
    """
    if bits < 2:
        raise InputError(f"a converter needs at least 2 bits, not {bits} bits")
    return bits


class DAC(Effect):
    """x → quantise(x, bits, bound): digital-to-analog converter of a layer's inputs.

    Args:
        bits: at least 2; aihwkit's default is 7.
        bound: largest input, in the units of the inputs; inputs outside ±bound are clipped.

    Raises:
        InputError: for less than 2 bits, or a bound that is not positive.

    >>> import torch
    >>> DAC(bits=2, bound=1.0).inputs(torch.tensor([[0.2, 0.7, 3.0]]))
    tensor([[0., 1., 1.]])
    """

    def __init__(self, bits: int = 7, bound: float = 1.0) -> None:
        super().__init__()
        positive(bound=bound)
        self.bits, self.bound = check_bits(bits), bound

    def inputs(self, x: Tensor) -> Tensor:
        """Quantise the inputs: (B, *in) → (B, *in)."""
        return quantise(x, self.bits, self.bound)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"bits={self.bits}, bound={self.bound:g}"


class ADC(Effect):
    """a → quantise(a, bits, bound): analog-to-digital converter of a layer's activities.

    Args:
        bits: at least 2; aihwkit's default is 9.
        bound: largest activity, in the units of the activities; activities outside ±bound are
            clipped.

    Raises:
        InputError: for less than 2 bits, or a bound that is not positive.

    >>> import torch
    >>> ADC(bits=3, bound=3.0)(torch.tensor([[0.4, 1.6, 9.0]]))
    tensor([[0., 2., 3.]])
    """

    def __init__(self, bits: int = 9, bound: float = 12.0) -> None:
        super().__init__()
        positive(bound=bound)
        self.bits, self.bound = check_bits(bits), bound

    def forward(self, a: Tensor) -> Tensor:
        """Quantise the activities: (B, *out) → (B, *out)."""
        return quantise(a, self.bits, self.bound)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"bits={self.bits}, bound={self.bound:g}"
