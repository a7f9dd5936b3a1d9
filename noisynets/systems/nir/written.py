"""The nodes of single modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisynets.core.decorrelation import Decorrelated, folded
from noisynets.core.types import Wrapper
from noisynets.systems.nir.graph import Graph, Shape, Signal
from noisynets.systems.nir.neurons import Membrane, cuba_node, li_node, step_of
from noisynets.systems.nir.package import array
from noisynets.systems.nir.parts import Above, AboveOverTrial, Delay, Integrator
from noisynets.systems.spiking.firing import NoisyThreshold, Threshold
from noisynets.systems.spiking.neurons import (
    Lapicque,
    LateResetLeaky,
    Leaky,
    Neuron,
    OneToOne,
    Synaptic,
)
from noisynets.systems.units import Step

Write = Callable[[Graph, str, Any, Signal], Signal]
"""(graph, name, module, what enters it) → what leaves it. Raises ValueError."""


def plain(name: str, module: nn.Module) -> tuple[Any, Tensor, Tensor | None]:
    """Return the layer inside of wrappers, and its weights, with decorrelation multiplied in."""
    layer: Any = module.core[1] if isinstance(module, Wrapper) else module
    own = {n: p.detach().cpu() for n, p in layer.named_parameters()}
    while isinstance(module, Wrapper):
        if isinstance(module, Decorrelated):
            own |= folded(name, module, own)
        module = module.layer
    if not all(bool(t.isfinite().all()) for t in own.values()):
        raise ValueError("weights contain NaN or infinity")
    return layer, own["weight"], own.get("bias")


def numbers(value: Tensor) -> Any:
    """Return weights as NumPy numbers, in float32 if they have less precision."""
    wide = value.detach().cpu().to(torch.promote_types(value.dtype, torch.float32))
    return wide.numpy().copy()


def linear(graph: Graph, name: str, module: nn.Module, signal: Signal) -> Signal:
    """Add an Affine, or a Linear without bias."""
    layer, weight, bias = plain(name, module)
    if signal.shape != (layer.in_features,):
        raise ValueError(f"takes ({layer.in_features},), and gets {signal.shape}")
    shape = (layer.out_features,)
    if bias is None:
        return graph.add(name, graph.nir.Linear(numbers(weight)), signal, shape)
    return graph.add(name, graph.nir.Affine(numbers(weight), numbers(bias)), signal, shape)


def convolution(graph: Graph, name: str, module: nn.Module, signal: Signal) -> Signal:
    """Add a Conv1d or Conv2d; without bias, its bias is 0."""
    layer, weight, bias = plain(name, module)
    if layer.padding_mode != "zeros":
        raise ValueError(f"padding_mode {layer.padding_mode!r} has no equivalent: use zeros")
    flat = isinstance(layer, nn.Conv1d)
    if len(signal.shape) != (2 if flat else 3):
        raise ValueError(f"takes channels and positions, and gets {signal.shape}")
    kind = graph.nir.Conv1d if flat else graph.nir.Conv2d
    settings = {n: getattr(layer, n) for n in ("stride", "padding", "dilation")}
    if flat:
        settings = {n: v if isinstance(v, str) else v[0] for n, v in settings.items()}
    node = kind(
        input_shape=signal.shape[1] if flat else signal.shape[1:],
        weight=numbers(weight),
        groups=layer.groups,
        bias=numbers(weight.new_zeros(len(weight)) if bias is None else bias),
        **settings,
    )
    return graph.add(name, node, signal, shape_behind(layer, signal.shape))


@torch.no_grad()
def shape_behind(layer: nn.Module, shape: Shape) -> Shape:
    """Return the shape of the outputs of a layer without state."""
    dtype = next((p.dtype for p in layer.parameters()), torch.float32)
    device = next((p.device for p in layer.parameters()), None)
    return tuple(layer(torch.zeros(1, *shape, dtype=dtype, device=device)).shape[1:])


def flatten(graph: Graph, name: str, module: nn.Flatten, signal: Signal) -> Signal:
    """Add a Flatten, whose dimensions do not count the batch."""
    start, end = module.start_dim, module.end_dim
    if start == 0 or end == 0:
        raise ValueError("flattens the batch: use start_dim=1")
    node = graph.nir.Flatten(
        np.array(signal.shape), start - 1 if start > 0 else start, end - 1 if end > 0 else end
    )
    return graph.add(name, node, signal, shape_behind(module, signal.shape))


def pool(graph: Graph, name: str, module: nn.AvgPool2d, signal: Signal) -> Signal:
    """Add an AvgPool2d, or a SumPool2d where the divisor is 1."""
    padding = pair(module.padding)
    if module.ceil_mode or (any(padding) and not module.count_include_pad):
        raise ValueError("ceil_mode and count_include_pad=False have no equivalent")
    if module.divisor_override not in (None, 1):
        raise ValueError(f"divisor_override {module.divisor_override} has no equivalent: use 1")
    kind = graph.nir.AvgPool2d if module.divisor_override is None else graph.nir.SumPool2d
    node = kind(*(np.array(pair(v)) for v in (module.kernel_size, module.stride, padding)))
    return graph.add(name, node, signal, shape_behind(module, signal.shape))


def pair(value: Any) -> tuple[int, int]:
    """Return a number for height and width."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def scale(graph: Graph, name: str, module: nn.Module, signal: Signal) -> Signal:
    """Add a Scale."""
    _, weight, _ = plain(name, module)
    values = np.broadcast_to(numbers(weight), signal.shape).copy()
    return graph.add(name, graph.nir.Scale(values), signal)


def above(graph: Graph, name: str, module: Above, signal: Signal) -> Signal:
    """Add a Threshold."""
    return _threshold(graph, name, module.threshold, signal)


def above_over_trial(graph: Graph, name: str, module: AboveOverTrial, signal: Signal) -> Signal:
    """Add a Threshold."""
    return above(graph, name, module.above, signal)


def step(graph: Graph, name: str, module: Step, signal: Signal) -> Signal:
    """Add a Threshold. a ≥ θ is a > the number below θ, here in float32."""
    below = np.nextafter(np.float32(module.threshold), np.float32(-np.inf))
    return _threshold(graph, name, float(below), signal)


def _threshold(graph: Graph, name: str, value: Any, signal: Signal) -> Signal:
    values = np.broadcast_to(array(value), signal.shape).copy()
    return graph.add(name, graph.nir.Threshold(values), signal)


def delay(graph: Graph, name: str, module: Delay, signal: Signal) -> Signal:
    """Add a Delay."""
    values = np.broadcast_to(array(module.steps) * graph.dt, signal.shape).copy()
    return graph.add(name, graph.nir.Delay(values), signal)


def integrator(graph: Graph, name: str, module: Integrator, signal: Signal) -> Signal:
    """Add an LI or I."""
    return graph.add(name, li_node(graph.nir, step_of(module), signal.shape, graph.dt), signal)


def neuron(graph: Graph, name: str, module: Neuron, signal: Signal) -> Signal:
    """Add neurons: one node if they are reset to zero, several if by subtraction or not at all."""
    if not isinstance(module.firing, Threshold | NoisyThreshold):
        kind = type(module.firing).__name__
        raise ValueError(f"fires by {kind}, which NIR has not: use Threshold()")
    if module.reset == "zero" or (module.reset == "subtract" and graph.approximate):
        return _reset_to_zero(graph, name, module, signal)
    if module.reset == "subtract" and not module.reset_delay:
        raise ValueError(
            "is reset by subtraction in the step of the spike, which NIR has not: use "
            "reset_delay=True, or reset='zero'"
        )
    return _several(graph, name, module, signal)


def _reset_to_zero(graph: Graph, name: str, module: Neuron, signal: Signal) -> Signal:
    late = module.reset == "zero" and module.reset_delay and type(module) is not Leaky
    if late:
        raise ValueError(
            "is reset a step after the spike, together with the input of that step, which NIR has "
            "not: use reset_delay=False"
        )
    if isinstance(module, Synaptic):
        return graph.add(name, cuba_node(graph.nir, module, signal.shape, graph.dt), signal)
    theta = array(module.threshold)
    node = li_node(graph.nir, step_of(module), signal.shape, graph.dt, v_threshold=theta)
    return graph.add(name, node, signal)


def _several(graph: Graph, name: str, module: Neuron, signal: Signal) -> Signal:
    """Add LI → Threshold, and a Scale of −θ/g from the spikes back to the LI."""
    theta, membrane = array(module.threshold), step_of(module)
    if isinstance(module, Synaptic):
        synapse = Membrane(array(module.alpha), np.ones(()), np.zeros(()))
        node = li_node(graph.nir, synapse, signal.shape, graph.dt)
        signal = graph.add(f"{name}.current", node, signal)
    entering = signal
    if module.reset == "subtract":
        entering = Signal.sum([signal, Signal((f"{name}.reset",), signal.shape)])
    node = li_node(graph.nir, membrane, signal.shape, graph.dt)
    potential = graph.add(f"{name}.membrane", node, entering)
    spikes = _threshold(graph, f"{name}.spikes", theta, potential)
    if module.reset == "subtract":
        back = np.broadcast_to(-theta / membrane.gain, signal.shape).copy()
        graph.add(f"{name}.reset", graph.nir.Scale(back), spikes)
    return spikes


WRITERS: Mapping[type[nn.Module], Write] = MappingProxyType(
    {
        nn.Linear: linear,
        nn.Conv1d: convolution,
        nn.Conv2d: convolution,
        nn.Flatten: flatten,
        nn.AvgPool2d: pool,
        OneToOne: scale,
        Step: step,
        Above: above,
        AboveOverTrial: above_over_trial,
        Delay: delay,
        Integrator: integrator,
        Leaky: neuron,
        LateResetLeaky: neuron,
        Lapicque: neuron,
        Synaptic: neuron,
    }
)
"""What adds the node of a module, by its class."""
