"""from_nir(graph): a system from a NIR graph."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.trial import has_state, trial
from noisynets.systems.nir.groups import grouped
from noisynets.systems.nir.layers import Maker, makers
from noisynets.systems.nir.package import DT, checked_step, nir_package, refused
from noisynets.systems.nir.parts import (
    INPUT,
    Above,
    AboveOverTrial,
    Branches,
    Integrator,
    total,
)
from noisynets.systems.nir.wiring import ends_of, in_order, laid_flat
from noisynets.systems.spiking import (
    FirstSpike,
    MeanMembrane,
    MeanOutput,
    Neuron,
    Readout,
    SpikeCount,
    Spiking,
)


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    steps: int | None = None,
    readout: Readout | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Return a system that computes what a NIR graph describes, and that every rule here trains.

    The equations of each node, and how they become steps, are those of `noisynets.systems.nir`.

    Args:
        graph: a `nir.NIRGraph` with one Input and one Output, as `nir.read(FILE)` returns it.
        dt: Δt in seconds; None: `graph.metadata["dt"]`, which `to_nir` writes, or 1e-4.
        steps: T for inputs that are the same in every step; None: `graph.metadata["steps"]`, or T
            of the inputs.
        readout: of the outputs in every step; None: `graph.metadata["readout"]`, or their mean.
        dtype: of the weights; None: torch's default.

    Returns:
        If a node has a state, `Spiking(network, steps, readout)`, whose inputs are (B, T, *in); if
        none has, the network, with inputs (B, *in). The network is an `nn.Sequential` if the graph
        is a chain, else `Branches`.

    Raises:
        InputError: for nodes, constants or edges without an equivalent here, naming the node.
        MissingPackages: if nir is not installed.
    """
    nir = nir_package()
    wiring = laid_flat(nir, graph)
    start, end = ends_of(nir, wiring)
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    dt = checked_step(_told(metadata, "dt", DT) if dt is None else dt)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    grouped(nir, wiring)
    order = [name for name in in_order(wiring) if name not in (start, end)]
    if not order:
        raise InputError("the graph has no node but its Input and Output", page=Page.NIR)
    make = makers(nir, dt, dtype)
    modules = _in_time({name: _made(make, name, wiring.nodes[name]) for name in order})
    sources = {n: [INPUT if b == start else b for b in wiring.before(n)] for n in order}
    ends = [INPUT if n == start else n for n in wiring.before(end)]
    _try(modules, sources, ends, wiring.nodes[start], dtype)
    network = _network(modules, sources, ends)
    told = _told(metadata, "readout", None)
    if not has_state(network) and told is None and readout is None:
        return network
    if readout is None:
        readout = _readout(network, told or "mean")
    return Spiking(network, _steps(metadata) if steps is None else steps, readout)


def _made(make: Maker, name: str, node: Any) -> nn.Module:
    try:
        return make(node)
    except (ValueError, TypeError, AttributeError) as error:  # InputError too
        reason = error.args[0] if error.args else type(error).__name__
        raise refused(name, type(node).__name__, str(reason)) from error


def _in_time(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Make populations of threshold units, if anything else runs through a trial."""
    if not has_state(nn.ModuleList(modules.values())):
        return modules
    return {n: AboveOverTrial(m) if isinstance(m, Above) else m for n, m in modules.items()}


def _told(metadata: dict[str, Any], name: str, default: Any) -> Any:
    value = metadata.get(name, default)
    return value.decode() if isinstance(value, bytes) else value


def _steps(metadata: dict[str, Any]) -> int | None:
    steps = _told(metadata, "steps", None)
    return None if steps is None else int(steps)


@torch.no_grad()
def _try(
    modules: dict[str, nn.Module],
    sources: dict[str, list[str]],
    ends: list[str],
    start: Any,
    dtype: torch.dtype,
) -> None:
    """Run one step, to name the node whose shape does not fit.

    Raises:
        InputError: naming the node.
    """
    shape = start.input_type["input"]
    if shape is None:
        return
    values: dict[str, Tensor] = {INPUT: torch.zeros(1, *(int(n) for n in shape), dtype=dtype)}
    name, kind = "output", "Output"
    with trial(nn.ModuleList(modules.values())):
        try:
            for name, module in modules.items():
                kind = type(module).__name__
                values[name] = module(total(values, sources[name]))
            name, kind = "output", "Output"
            total(values, ends)
        except (RuntimeError, ValueError, IndexError) as error:
            arrived = ", ".join(str(tuple(values[s].shape[1:])) for s in sources.get(name, ends))
            reason = " ".join(str(error).split())
            raise refused(name, kind, f"does not fit its inputs {arrived} ({reason})") from error


def _network(
    modules: dict[str, nn.Module], sources: dict[str, list[str]], ends: list[str]
) -> nn.Module:
    """Return a chain of modules if the graph is one, else branches."""
    names = _names(list(modules))
    found = OrderedDict((names[n], module) for n, module in modules.items())
    before = [INPUT, *modules]
    if ends == before[-1:] and all(
        sources[n] == [b] for n, b in zip(modules, before, strict=False)
    ):
        return nn.Sequential(found)
    names[INPUT] = INPUT
    wired = {names[n]: [names[s] for s in given] for n, given in sources.items()}
    return Branches(found, wired, [names[n] for n in ends])


def _names(given: list[str]) -> dict[str, str]:
    """Return names that modules can have, by those of the nodes."""
    found: dict[str, str] = {}
    taken = dir(Branches({}, {}, ())) + dir(nn.Sequential())
    for name in given:
        new = name.replace(".", "_") or "node"
        while new in taken or new in found.values():
            new += "_"
        found[name] = new
    return found


def _readout(network: nn.Module, told: str) -> Readout:
    """Return the read-out that a graph names, and take the last node into it where it holds it.

    Raises:
        InputError: for another name, or neurons that are not there.
    """
    last = network[-1] if isinstance(network, nn.Sequential) else None
    if told == "mean":
        if isinstance(last, Integrator) and _is_membrane(last):
            del network[-1]  # type: ignore[operator]  # a chain
            return MeanMembrane(float(last.beta))
        return MeanOutput()
    kinds = {"count": SpikeCount, "first": FirstSpike}
    if told not in kinds:
        raise InputError(
            f"metadata: read-out {told!r} is none of mean, {', '.join(kinds)}: give readout=",
            page=Page.NIR,
        )
    if not isinstance(last, Neuron):
        raise InputError(
            f"metadata: read-out {told!r} needs neurons at the end of a chain: give readout=",
            page=Page.NIR,
        )
    del network[-1]  # type: ignore[operator]  # a chain
    return kinds[told](last)


def _is_membrane(last: Integrator) -> bool:
    """True for w ← β w + a with one β: what `MeanMembrane` computes."""
    values = (last.beta, last.gain, last.rest)
    alone = not any(isinstance(v, Tensor) for v in values)
    return alone and bool(np.isclose(float(last.gain), 1, rtol=1e-6)) and not float(last.rest)
