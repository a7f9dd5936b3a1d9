"""The circuits around an analog array: converters with scaled inputs, read noise, saturation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noisynets.core.errors import SystemRefused
from noisynets.core.noise import Source
from noisynets.core.pages import Page
from noisynets.core.types import Wrapper
from noisynets.systems.checks import not_negative, positive
from noisynets.systems.devices.conductance import scale
from noisynets.systems.devices.converters import check_bits, quantise
from noisynets.systems.devices.noisy import weight_of
from noisynets.systems.devices.pattern import Pattern

_SMALLEST = 1e-12


class Periphery(Wrapper):
    """Inputs and outputs of an analog tile: W x through a DAC, a noisy read-out and an ADC, plus b.

    With α = max|x| of each input vector (for a convolution, of each image), γ = max|W| of the
    layer, and y = W DAC(x/α)/γ in the units of the tile: y ← y/(1 + n |y|/bound) + o z + N(0, σ²),
    and a = α γ ADC(y) + b, where b is added digitally. Form and defaults are those of aihwkit's
    `IOParameters` (`simulator/parameters/io.py`), except that an output out of bounds is clipped,
    while aihwkit repeats the read at a lower gain.

    Args:
        layer: a layer, or a wrapper of one, such as Periphery(Noisy(layer, PCM())).
        dac_bits: of the input converter, at least 2.
        adc_bits: of the output converter, at least 2.
        bound: largest output, in the units of the tile.
        sigma: σ of the read noise, in the units of the tile.
        nonlinearity: n, saturation of the read-out; 0: none.
        offset: o, standard deviation of the fixed output offsets, in the units of the tile.
        device_seed: of the offsets; None: drawn from PyTorch's global generator.
        seed: of the read noise; None: drawn from PyTorch's global generator.

    Raises:
        InputError: for a setting out of range.
        SystemRefused: for a layer other than Linear, Conv1d and Conv2d.

    >>> Periphery(nn.Linear(3, 2))(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        layer: nn.Module,
        *,
        dac_bits: int = 7,
        adc_bits: int = 9,
        bound: float = 12.0,
        sigma: float = 0.06,
        nonlinearity: float = 0.0,
        offset: float = 0.0,
        device_seed: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        positive(bound=bound)
        not_negative(sigma=sigma, nonlinearity=nonlinearity, offset=offset)
        self.layer = layer
        self.dac_bits, self.adc_bits = check_bits(dac_bits), check_bits(adc_bits)
        self.bound, self.sigma = bound, sigma
        self.nonlinearity, self.offset = nonlinearity, offset
        self.source = Source(seed, "read noise")
        self.pattern = Pattern(device_seed, "offsets of outputs")
        if not isinstance(self.core[1], nn.Linear | nn.Conv1d | nn.Conv2d):
            kind = type(self.core[1]).__name__
            raise SystemRefused(
                f"{kind}: only Linear and convolutions can be put on a tile", page=Page.DEVICES
            )

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer through its converters: (B, *in) → (B, *out)."""
        prefix, core = self.core
        features = -1 if isinstance(core, nn.Linear) else list(range(1, x.dim()))
        largest = x.detach().abs().amax(features, keepdim=True).clamp_min(_SMALLEST)
        x = quantise(x, self.dac_bits, largest)
        bias = getattr(core, "bias", None)
        no_bias = {} if bias is None else {f"{prefix}bias": torch.zeros_like(bias)}
        y: Tensor = functional_call(self.layer, no_bias, (x,))
        unit = (scale(weight_of(core)) * largest).clamp_min(_SMALLEST)
        y = y / unit
        if self.nonlinearity:
            y = y / (1 + self.nonlinearity / self.bound * y.abs())
        channels = -1 if isinstance(core, nn.Linear) else 1
        shape = [1] * y.dim()
        shape[channels] = y.shape[channels]
        if self.offset:
            y = y + self.offset * self.pattern(y.detach().new_empty(shape))
        y = y + self.source.normal(y, self.sigma)
        a = quantise(y, self.adc_bits, self.bound) * unit
        return a if bias is None else a + bias.view(shape)

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return (
            f"dac_bits={self.dac_bits}, adc_bits={self.adc_bits}, bound={self.bound:g}, "
            f"sigma={self.sigma:g}"
        )
