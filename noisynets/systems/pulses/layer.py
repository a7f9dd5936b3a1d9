"""Pulsed(layer, device): a layer whose weights are held by pulsed devices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.types import Wrapper
from noisynets.systems.checks import positive
from noisynets.systems.pulses.device import Device
from noisynets.systems.pulses.made import array_of
from noisynets.systems.pulses.presets import PULSED

LARGEST = 0.6
"""What the largest weight of a layer becomes on its device, whose range is about −1 to 1."""


class Pulsed(Wrapper):
    """A layer whose weights change by pulses alone; biases are digital.

    W = α w_read, where w is in units of the device. The layer's own weight is W, so that any device
    (`Noisy`, `Periphery`) reads it as usual. When a layer is wrapped, its weights are programmed:
    clipped to the bounds of every device, with the noise of one writing. After that, one of the
    optimisers of `noisynets.systems.pulses` writes them.

    Args:
        layer: a Linear or a convolution, or a wrapper of one.
        device: a key of `PULSED`, or a device.
        scale: α, the weight that 1 on the device represents; None: max|W|/0.6.
        device_seed: of what differs between devices; None: drawn from PyTorch's global generator.
        seed: of the noise of pulses; None: drawn from PyTorch's global generator.

    Attributes:
        array: devices that hold the weights.
        fast: second devices of all weights, for optimisers that accumulate gradients on devices.
        scale: α.
        target: W as it was commanded: what was programmed, and α Δw for every pulse.

    Raises:
        InputError: for an unknown device, or a scale that is not positive.
        SystemRefused: for another layer, or one that is pulsed already.

    >>> layer = Pulsed(nn.Linear(3, 2), "ideal")
    >>> layer(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """

    deterministic = True

    def __init__(
        self,
        layer: nn.Module,
        device: str | Device = "ideal",
        *,
        scale: float | None = None,
        device_seed: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        device = PULSED[device] if isinstance(device, str) else device
        self.layer = layer
        _check(self)
        largest = float(self.weight.detach().abs().amax())
        found = (largest / LARGEST or 1.0) if scale is None else scale
        positive(scale=found)
        self.scale: Tensor
        self.target: Tensor
        self.register_buffer("scale", self.weight.new_tensor(found))
        self.register_buffer("target", self.weight.detach().clone())
        device_seed, seed = (
            int(torch.randint(2**48, ())) if s is None else s for s in (device_seed, seed)
        )
        self.array = array_of(device, device_seed, seed)
        self.fast = array_of(device, device_seed, seed, "pulses of the second devices")
        self.program_(self.weight)

    @property
    def linear(self) -> bool:
        """True if what is inside multiplies with the weights as they are."""
        return self.layer.linear if isinstance(self.layer, Wrapper) else True

    @property
    def weight(self) -> nn.Parameter:
        """W of the layer inside."""
        return self.core[1].get_parameter("weight")

    @property
    def commanded(self) -> Tensor:
        """W as it was commanded; no device is read for that."""
        return self.target

    @property
    def step(self) -> Tensor:
        """α Δw, the mean step in units of W."""
        return self.scale * self.array.device.step

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer: (B, *in) → (B, *out)."""
        output: Tensor = self.layer(x)
        return output

    @torch.no_grad()
    def program_(self, target: Tensor) -> None:
        """Write weights to the devices at once, without an error but that of one writing.

        Args:
            target: W, (*weight); clipped to each device's bounds.
        """
        self.target = target.detach().to(self.weight).clone()
        self.array.make_(target / self.scale)
        self.weight.copy_(self.scale * self.array.read)

    @torch.no_grad()
    def check_held(self) -> None:
        """Check that the weights are what the devices hold.

        Raises:
            InputError: if anything but pulses has changed them.
        """
        held = self.scale * self.array.read
        if not torch.allclose(self.weight, held, rtol=1e-4, atol=1e-6 * float(self.scale)):
            raise InputError(
                f"the weights of {self.core[1]} were changed without pulses: call program_(weight) "
                "after that, or leave the change to an optimiser that writes by pulses"
            )

    @torch.no_grad()
    def pulse_(self, counts: Tensor) -> None:
        """Give every weight its own number of pulses.

        Args:
            counts: whole numbers, (*weight); negative: pulses down.

        Raises:
            InputError: if anything else has changed the weights in the meantime.
        """
        self.check_held()
        self.array.pulse_(counts)
        self.target = self.target + counts * self.step
        self.weight.copy_(self.scale * self.array.read)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the weights for what was commanded, in a state of version 0.5."""
        name, _ = self.core
        if f"{prefix}target" not in state_dict and f"{prefix}layer.{name}weight" in state_dict:
            state_dict[f"{prefix}target"] = state_dict[f"{prefix}layer.{name}weight"]
        super()._load_from_state_dict(state_dict, prefix, *args)


def pulsed_layers(system: nn.Module) -> dict[str, Pulsed]:
    """Return the pulsed layers of a system, by path.

    >>> list(pulsed_layers(nn.Sequential(Pulsed(nn.Linear(3, 2)), nn.ReLU())))
    ['0']
    """
    return {name: m for name, m in system.named_modules() if isinstance(m, Pulsed)}


def _check(wrapper: Pulsed) -> None:
    module: nn.Module = wrapper.layer
    while isinstance(module, Wrapper):
        if isinstance(module, Pulsed):
            raise SystemRefused("a layer that is pulsed already cannot be wrapped in Pulsed again")
        module = module.layer
    if not isinstance(module, nn.Linear | _ConvNd) or hasattr(module, "parametrizations"):
        kind = type(module).__name__
        raise SystemRefused(f"{kind}: only Linear and convolutions can be put on pulsed devices")
    if isinstance(module.weight, nn.UninitializedParameter):
        raise SystemRefused(f"{type(module).__name__}: it has no weights yet: call it first")
