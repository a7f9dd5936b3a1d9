"""Groups of nodes that are one module here: neurons that subtract, recurrent neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from noisynets.systems.nir.package import array, close
from noisynets.systems.nir.wiring import Wiring


@dataclass(frozen=True)
class Fused:
    """LI or I → Threshold: neurons with a reset by subtraction, or none.

    Attributes:
        membrane: the LI or I.
        threshold: the Threshold.
        back: the Scale from the spikes to the membrane; None: they are not reset.
        synapse: an LI in front of the membrane: their current; None: they have none.
    """

    membrane: Any
    threshold: Any
    back: Any = None
    synapse: Any = None


@dataclass(frozen=True)
class Loop:
    """Neurons whose spikes come back through a layer in the next step.

    Attributes:
        neuron: a node, or a group.
        layer: a node.
    """

    neuron: Any
    layer: Any


def grouped(nir: Any, wiring: Wiring) -> None:
    """Merge the groups of a wiring in place."""
    for name in list(wiring.nodes):
        if isinstance(wiring.nodes.get(name), nir.LI | nir.I):
            _fuse(nir, wiring, name)
    neurons = (nir.IF, nir.LIF, nir.CubaLIF, Fused)
    for name in list(wiring.nodes):
        if isinstance(wiring.nodes.get(name), neurons):
            _close(nir, wiring, name)


def _fuse(nir: Any, wiring: Wiring, name: str) -> None:
    """Merge LI → Threshold, and its reset, if nothing else reads the potential."""
    nodes, after = wiring.nodes, wiring.after(name)
    if len(after) != 1 or not isinstance(nodes[after[0]], nir.Threshold):
        return
    (spikes,) = after
    if wiring.before(spikes) != [name]:
        return
    back = [
        n
        for n in wiring.after(spikes)
        if isinstance(nodes[n], nir.Scale)
        and wiring.before(n) == [spikes]
        and wiring.after(n) == [name]
    ]
    members = [name, spikes, *back[:1]]
    synapse = [n for n in wiring.before(name) if n not in back]
    is_synapse = len(synapse) == 1 and _is_synapse(nir, wiring, synapse[0], name)
    members = [*synapse, *members] if is_synapse and back else members
    fused = Fused(
        nodes[name],
        nodes[spikes],
        nodes[back[0]] if back else None,
        nodes[synapse[0]] if is_synapse and back else None,
    )
    wiring.merge(_name(members), members, fused)


def _is_synapse(nir: Any, wiring: Wiring, name: str, to: str) -> bool:
    node = wiring.nodes[name]
    if not isinstance(node, nir.LI) or wiring.after(name) != [to]:
        return False
    return close(array(node.v_leak), 0)


def _close(nir: Any, wiring: Wiring, name: str) -> None:
    """Merge neurons with the layer through which their spikes come back."""
    layers = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.Scale)
    for layer in wiring.after(name):
        found = wiring.nodes[layer]
        alone = wiring.before(layer) == [name] and wiring.after(layer) == [name]
        if isinstance(found, layers) and alone:
            loop = Loop(wiring.nodes[name], found)
            wiring.merge(_name([name, layer]), [name, layer], loop)
            return


def _name(members: Sequence[str]) -> str:
    """Return what the names of all members begin with, 'a' of 'a.b' and 'a.c'; else the first."""
    first = members[0].rpartition(".")[0]
    return first if first and all(m.rpartition(".")[0] == first for m in members) else members[0]
