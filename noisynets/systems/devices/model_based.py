"""Training with a model of the devices: on the model, or with its derivatives.

The model of a layer on a device is the layer by itself. These are baselines: they read weights and
take derivatives. `noisynets.systems.blackbox.model_based` has the same for black boxes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.noise import Source
from noisynets.core.seeds import salted
from noisynets.core.types import Wrapper
from noisynets.systems.devices.pattern import LazyBuffers, Pattern


def nominal(system: nn.Module) -> nn.Module:
    """Return the system without its devices, on the same parameters, buffers and random streams.

    Raises:
        InputError: if it has none.

    >>> from noisynets.systems.devices import AdditiveGaussian, Noisy
    >>> net = nn.Sequential(Noisy(nn.Linear(3, 2), AdditiveGaussian(0.1)), nn.ReLU())
    >>> model = nominal(net)
    >>> model[0], model[0].weight is net[0].layer.weight
    (Linear(in_features=3, out_features=2, bias=True), True)
    """
    return _with(system, lambda wrapper: wrapper.core[1])


def physics_aware(system: nn.Module) -> nn.Module:
    """Return the system with the derivatives of its layers alone: forward through its devices.

    Wright et al., *Deep physical neural networks trained with backpropagation* (Nature 601, 2022).

    Raises:
        InputError: if it has no devices.
    """
    return _with(system, AsMeasured)


class AsMeasured(nn.Module):
    """Forward through a device, backward through its layer at the measured input.

    Args:
        device: a layer in its wrappers.
    """

    def __init__(self, device: Wrapper) -> None:
        super().__init__()
        self.device = device

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in) → the device's output (B, *out), with the gradient of the layer."""
        with torch.no_grad():
            measured: Tensor = self.device(x)
        computed: Tensor = self.device.core[1](x)
        return computed + (measured - computed).detach()


class HardwareAware(nn.Module):
    """The system on new devices of the same kinds in every pass: hardware-aware training.

    Every error that differs between devices is drawn anew, as in aihwkit's training before a chip
    is programmed (Rasch et al., *Hardware-aware training for large-scale and diverse deep learning
    inference workloads using in-memory computing-based accelerators*, 2023). Gains and offsets of
    nodes count, too, where the devices have such (domain randomisation, Tobin et al. 2017).

    Args:
        system: on devices.
        seed: of the devices.

    Raises:
        InputError: if it has no devices.
    """

    def __init__(self, system: nn.Module, seed: int = 0) -> None:
        super().__init__()
        self.model = _with(system, _copied)
        self._seed = seed

    def draw_(self, number: int) -> None:
        """Put the system on the devices of a number."""
        for i, module in enumerate(_devices(self.model)):
            seed = salted(self._seed, f"device {i} of pass {number}")
            if isinstance(module, Source):
                module.begin(seed)
                continue
            for name in module.buffer_names:
                setattr(module, name, None)
            if isinstance(module, Pattern):
                module.seed.fill_(seed >> 15)  # as many bits as it draws by itself

    def forward(self, x: Tensor) -> Tensor:
        """Run the system on the devices that were drawn last."""
        output: Tensor = self.model(x)
        return output


def _with(system: nn.Module, made: Callable[[Wrapper], nn.Module]) -> nn.Module:
    """Copy a system, with others in place of its wrapped layers; all tensors are shared."""
    outermost = list(_outermost(system))
    if not outermost:
        raise InputError(f"{type(system).__name__} has no devices: its model is the system itself")
    shared = chain(system.parameters(), system.buffers(), _sources(system))
    memo: dict[int, object] = {id(each): each for each in shared}
    memo |= {id(wrapper): made(wrapper) for wrapper in outermost}
    found: nn.Module = copy.deepcopy(system, memo)
    return found


def _outermost(module: nn.Module) -> Iterator[Wrapper]:
    if isinstance(module, Wrapper):
        yield module
        return
    for child in module.children():
        yield from _outermost(child)


def _sources(system: nn.Module) -> Iterator[Source]:
    return (module for module in system.modules() if isinstance(module, Source))


def _copied(wrapper: Wrapper) -> Wrapper:
    """Copy a wrapper with a state of its own, around the same layer."""
    layer = wrapper.core[1]
    return copy.deepcopy(wrapper, {id(layer): layer})


def _devices(system: nn.Module) -> Iterator[Source | LazyBuffers]:
    """Yield what is random in the wrappers of a system."""
    for wrapper in _outermost(system):
        for module in wrapper.modules():
            if isinstance(module, Source | LazyBuffers):
                yield module
