"""to_nir(system): a NIR graph from a system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.nodes import is_chain
from noisynets.core.pages import Page
from noisynets.core.trial import Stateful
from noisynets.core.types import Effect, Physical, Sealed, Wrapper
from noisynets.systems.nir.graph import Graph, Shape, Signal
from noisynets.systems.nir.package import DT, checked_step, nir_package, refused
from noisynets.systems.nir.parts import INPUT, Branches, Integrator
from noisynets.systems.nir.written import WRITERS
from noisynets.systems.spiking import (
    FirstSpike,
    MeanMembrane,
    MeanOutput,
    Readout,
    Recurrent,
    SpikeCount,
    Spiking,
    adapt,
)

DROPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, Effect)
"""What is left out: it does nothing in evaluation, or is a device's noise."""


def to_nir(
    system: nn.Module,
    input_shape: Sequence[int] | None = None,
    *,
    dt: float = DT,
    approximate: bool = False,
) -> Any:
    """Return the NIR graph of a system; its equations are in `noisynets.systems.nir`.

    Noise, devices and decorrelation are left out: the graph is that of the plain network, with the
    matrices of decorrelated layers multiplied into the weights. `graph.metadata` holds dt, and of a
    `Spiking` system its steps and its read-out, which NIR cannot describe: 'mean', 'count' or
    'first' of the outputs in every step.

    Args:
        system: a `Spiking`, or a network: an `nn.Sequential`, nested or not, of layers, pooling,
            units and neurons that NIR has; what `from_nir` returns; or such a network of
            snnTorch's neurons, as `adapt` takes it.
        input_shape: of one step of one sample; None: that of a Linear at the beginning.
        dt: Δt of a step, in seconds.
        approximate: write neurons with a reset by subtraction as LIF and CubaLIF, which most other
            programs read, though these are reset to zero. If not, they are several nodes, which
            compute the same.

    Returns:
        A `nir.NIRGraph`; `nir.write(FILE, graph)` writes it.

    Raises:
        InputError: for modules and settings without an equivalent, naming the module.
        MissingPackages: if nir is not installed.
    """
    graph = Graph(nir_package(), checked_step(dt), approximate)
    system = system.module if isinstance(system, Physical) else adapt(system)
    network = system.network if isinstance(system, Spiking) else system
    shape = _input_shape(network) if input_shape is None else tuple(int(n) for n in input_shape)
    signal = _write(graph, "", network, graph.begin(shape))
    if not isinstance(system, Spiking):
        return graph.made(signal, {})
    readout, signal = _read_out(graph, system.readout, signal)
    steps = {} if system.steps is None else {"steps": system.steps}
    return graph.made(signal, {"readout": readout, **steps})


def _write(graph: Graph, name: str, module: nn.Module, signal: Signal) -> Signal:
    """Add what a module computes to a graph, and return what leaves it."""
    if isinstance(module, Physical):
        return _write(graph, name, module.module, signal)
    if isinstance(module, DROPPED):
        return signal
    if is_chain(module):
        for child, found in module.named_children():
            signal = _write(graph, _below(name, child), found, signal)
        return signal
    if isinstance(module, Branches):
        return _branches(graph, name, module, signal)
    if type(module) is Recurrent:
        return _recurrent(graph, name, module, signal)
    kind = type(module.core[1] if isinstance(module, Wrapper) else module)
    write = WRITERS.get(kind)
    where = name or "the system"
    if write is None:
        raise refused(where, kind.__name__, _instead(module))
    try:
        return write(graph, name or "layer", module, signal)
    except ValueError as error:  # InputError too
        raise refused(where, kind.__name__, str(error.args[0])) from error


def _below(name: str, child: str) -> str:
    return f"{name}.{child}" if name else child


def _branches(graph: Graph, name: str, module: Branches, signal: Signal) -> Signal:
    values = {INPUT: signal}
    for child, sources in module.sources.items():
        entering = Signal.sum([values[s] for s in sources])
        values[child] = _write(graph, _below(name, child), module.get_submodule(child), entering)
    return Signal.sum([values[s] for s in module.ends])


def _recurrent(graph: Graph, name: str, module: Recurrent, signal: Signal) -> Signal:
    """Add neurons, and the layer from their spikes back to them."""
    name = name or "recurrent"
    back = Signal((f"{name}.layer",), signal.shape)
    spikes = _write(graph, f"{name}.neuron", module.neuron, Signal.sum([signal, back]))
    returned = _write(graph, f"{name}.layer", module.layer, spikes)
    if returned != back:
        raise refused(name, "Recurrent", "its layer must be one Linear, convolution or OneToOne")
    return spikes


def _instead(module: nn.Module) -> str:
    """Say why a module has no equivalent, and what to do."""
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
        return "NIR has no maximum pooling: use nn.AvgPool2d"
    if isinstance(module, Sealed):
        return "is computed outside of torch, so that its parts are not known"
    composed = any(True for _ in module.children()) and not isinstance(module, Wrapper | Stateful)
    if composed:
        return "has a forward of its own, which is not read: write it as an nn.Sequential"
    known = ", ".join(sorted(kind.__name__ for kind in WRITERS))
    return f"NIR has no equivalent: use one of {known}"


def _read_out(graph: Graph, readout: Readout, signal: Signal) -> tuple[str, Signal]:
    """Add the part of a read-out that NIR can describe; return the name of the rest."""
    if type(readout) is MeanMembrane:
        return "mean", _write(graph, "readout", Integrator(readout.beta), signal)
    if type(readout) is MeanOutput:
        return "mean", signal
    for name, kind in {"count": SpikeCount, "first": FirstSpike}.items():
        if type(readout) is kind:
            return name, _write(graph, "readout", readout.get_submodule("neuron"), signal)
    known = ", ".join(k.__name__ for k in (MeanMembrane, MeanOutput, SpikeCount, FirstSpike))
    raise refused("readout", type(readout).__name__, f"has no name in a graph; known are {known}")


def _input_shape(network: nn.Module) -> Shape:
    """Return the shape of the inputs of a network that begins with a Linear.

    Raises:
        InputError: if it begins with something else.
    """
    first = network
    while isinstance(first, Wrapper) or is_chain(first):
        inner = first.layer if isinstance(first, Wrapper) else next(iter(first.children()), None)
        if inner is None:
            break
        first = inner
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    raise InputError(
        "the shape of the inputs is not known from the first layer: give input_shape, of one step "
        "without the batch",
        page=Page.NIR,
    )
