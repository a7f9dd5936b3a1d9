"""The modules of single nodes and groups of a NIR graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisynets.systems.nir.groups import Fused, Loop
from noisynets.systems.nir.neurons import (
    Membrane,
    cuba_li,
    cuba_lif,
    integrator,
    leaky,
    lif,
    synaptic,
)
from noisynets.systems.nir.package import array, close, constant
from noisynets.systems.nir.parts import Above, Delay
from noisynets.systems.spiking.neurons import Neuron, OneToOne, Recurrent

Maker = Callable[[Any], nn.Module]
"""A node → its module. Raises ValueError for what has no equivalent."""
LONGEST = 100_000
"""Steps of a delay."""


def makers(nir: Any, dt: float, dtype: torch.dtype) -> Maker:
    """Return what makes the module of a node or group.

    Args:
        nir: the package.
        dt: Δt in seconds.
        dtype: of weights, and of constants that differ between neurons.
    """

    def spikes(node: Any) -> nn.Module:
        return fused(node, dt, dtype)

    kinds: dict[type, Callable[..., nn.Module]] = {
        nir.Affine: lambda node: linear(node.weight, node.bias, dtype),
        nir.Linear: lambda node: linear(node.weight, None, dtype),
        nir.Conv1d: lambda node: convolution(nn.Conv1d, node, dtype),
        nir.Conv2d: lambda node: convolution(nn.Conv2d, node, dtype),
        nir.Scale: lambda node: OneToOne(_tensor(node.scale, dtype)),
        nir.Flatten: flatten,
        nir.AvgPool2d: lambda node: pool(node, None),
        nir.SumPool2d: lambda node: pool(node, 1),
        nir.Threshold: lambda node: Above(constant(array(node.threshold), dtype)),
        nir.Delay: lambda node: delay(node, dt),
        nir.I: lambda node: integrator(node, dt, dtype),
        nir.LI: lambda node: integrator(node, dt, dtype),
        nir.CubaLI: lambda node: cuba_li(node, dt, dtype),
        nir.IF: lambda node: lif(node, dt, dtype),
        nir.LIF: lambda node: lif(node, dt, dtype),
        nir.CubaLIF: lambda node: cuba_lif(node, dt, dtype),
        Fused: spikes,
    }

    def make(node: Any) -> nn.Module:
        if isinstance(node, Loop):
            neuron = kinds[type(node.neuron)](node.neuron)
            assert isinstance(neuron, Neuron)
            return Recurrent(neuron, kinds[type(node.layer)](node.layer))
        if type(node) not in kinds:
            known = ", ".join(kind.__name__ for kind in kinds if kind is not Fused)
            raise ValueError(f"has no equivalent here; known are {known}")
        return kinds[type(node)](node)

    return make


def fused(node: Fused, dt: float, dtype: torch.dtype) -> nn.Module:
    """Return the neurons of LI → Threshold.

    Raises:
        ValueError: if what comes back is no reset by subtraction.
    """
    membrane = Membrane.of(node.membrane, dt)
    theta = membrane.threshold(node.threshold.threshold)
    settings = {"reset": "none"}
    if node.back is not None:
        if not close(array(node.back.scale) * membrane.gain, -array(node.threshold.threshold)):
            raise ValueError(
                "the Scale from its spikes back to it is no reset by subtraction, "
                "−threshold / (r dt / tau): use an Affine for recurrent weights"
            )
        if membrane.rest.any():
            raise ValueError("v_leak is not 0, and the reset by subtraction needs it to be")
        settings = {"reset": "subtract"}
    if node.synapse is not None:
        return synaptic(Membrane.of(node.synapse, dt), membrane, theta, dtype, **settings)
    return leaky(membrane, theta, dtype, **settings)


def linear(weight: Any, bias: Any, dtype: torch.dtype) -> nn.Module:
    """Return an `nn.Linear` of weights (out, in)."""
    w = _tensor(weight, dtype)
    if w.dim() != 2:
        raise ValueError(f"weights of shape {tuple(w.shape)}: only (out, in) has an equivalent")
    layer = nn.Linear(w.shape[1], w.shape[0], bias=bias is not None, dtype=dtype)
    return _filled(layer, w, bias)


def convolution(kind: type[Any], node: Any, dtype: torch.dtype) -> nn.Module:
    """Return an `nn.Conv1d` or `nn.Conv2d`."""
    w = _tensor(node.weight, dtype)
    groups = int(node.groups)
    size = tuple(w.shape[2:])
    settings = {name: _numbers(getattr(node, name)) for name in ("stride", "padding", "dilation")}
    layer = kind(
        w.shape[1] * groups,
        w.shape[0],
        size,
        groups=groups,
        bias=node.bias is not None,
        dtype=dtype,
        **settings,
    )
    return _filled(layer, w, node.bias)


@torch.no_grad()
def _filled(layer: Any, weight: Tensor, bias: Any) -> nn.Module:
    if layer.weight.shape != weight.shape:
        raise ValueError(f"weights of shape {tuple(weight.shape)} fit no such layer")
    layer.weight.copy_(weight)
    if bias is not None:
        given = _tensor(bias, weight.dtype)
        if given.shape != layer.bias.shape:
            raise ValueError(f"a bias of shape {tuple(given.shape)} for {len(layer.bias)} outputs")
        layer.bias.copy_(given)
    return layer


def flatten(node: Any) -> nn.Module:
    """Return an `nn.Flatten`, whose dimensions count the batch as well."""
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)


def pool(node: Any, divisor: int | None) -> nn.Module:
    """Return an `nn.AvgPool2d`; of a sum with the divisor 1."""
    size, stride, padding = (_numbers(v) for v in (node.kernel_size, node.stride, node.padding))
    return nn.AvgPool2d(size, stride, padding, divisor_override=divisor)


def delay(node: Any, dt: float) -> nn.Module:
    """Return a `Delay` of whole steps."""
    seconds = array(node.delay)
    steps = np.rint(seconds / dt)
    if (seconds < 0).any():
        raise ValueError("delays must not be negative")
    if steps.max(initial=0) > LONGEST:
        raise ValueError(f"a delay of {steps.max():g} steps of dt = {dt:g} s: give a larger dt")
    if not np.allclose(steps * dt, seconds, rtol=1e-4, atol=1e-4 * dt):
        raise ValueError(f"delays are no whole numbers of steps of dt = {dt:g} s: give another dt")
    found = constant(steps, torch.float64)
    return Delay(found.long() if isinstance(found, Tensor) else int(found))


def _tensor(value: Any, dtype: torch.dtype) -> Tensor:
    return torch.as_tensor(array(value)).to(dtype)


def _numbers(value: Any) -> Any:
    """Return a number, a tuple of numbers, or 'same' or 'valid', which a file may give as bytes."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return value
    numbers = np.asarray(value)
    found = tuple(int(n) for n in numbers.ravel())
    return found if numbers.ndim else found[0]
