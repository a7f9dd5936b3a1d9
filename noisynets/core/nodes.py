"""Nodes: which layers of a system are trained, and where noise may be injected."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, TypeGuard

import torch
from torch import nn

from noisynets.core.outer import has_outer, is_norm
from noisynets.core.trial import Population, Stateful, populations, stateful
from noisynets.core.types import Effect, Node, Physical, Sealed, Wrapper


def find_nodes(
    system: nn.Module, without: Collection[nn.Module] = (), devices: bool = False
) -> list[Node]:
    """Return the layers with trained weights, in the order in which the system holds them.

    Args:
        system: any module.
        without: layers that are left out.
        devices: also layers in wrappers whose weights are frozen; credit passes these by mirrors.

    >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> [node.name for node in find_nodes(net)]
    ['0', '2']
    """
    wrapped = {m.layer for m in system.modules() if isinstance(m, Wrapper)}
    found = _walk(system, "", wrapped | set(without), devices)
    return [node for node in found if node.layer not in without]


def innermost(module: nn.Module) -> nn.Module:
    """Return the layer whose weights are trained: the module without its wrappers."""
    while isinstance(module, Wrapper) and not has_outer(module):
        module = module.layer
    return module


def _walk(module: nn.Module, name: str, seen: set[nn.Module], devices: bool) -> Iterator[Node]:
    if module in seen:
        return
    seen.add(module)
    layer = innermost(module)
    if has_outer(layer):
        trained = any(p.requires_grad for p in layer.parameters())
        if trained or (devices and isinstance(module, Wrapper)):
            yield Node(name, layer, inlet=module, outlet=module, product=_product(layer))
        return
    for row in _rows(module, name):
        for i, (path, child) in enumerate(row):
            for node in _walk(child, path, seen, devices):
                behind = _effects(row[i + 1 :]) if node.outlet is child else []
                yield replace(node, name=behind[-1][0], outlet=behind[-1][1]) if behind else node


Row = list[tuple[str, nn.Module]]


def _rows(module: nn.Module, name: str) -> list[Row]:
    """Return the children with their paths, in one row if each certainly feeds the next.

    This holds for an `nn.Sequential` and the sequentials nested in it. A module with its own
    forward() may call its children in any order, so that each child is a row by itself.
    """
    children = [
        (f"{name}.{n}".lstrip("."), child)
        for n, child in module._modules.items()
        if child is not None and not (is_chain(child) and not len(child))
    ]
    if not is_chain(module):
        return [[child] for child in children]
    nested = [_rows(m, path)[0] if is_chain(m) else [(path, m)] for path, m in children]
    return [[item for row in nested for item in row]]


def is_chain(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """Return True if each child certainly feeds the next."""
    return type(module).forward is nn.Sequential.forward


def _effects(following: Row) -> Row:
    """Return the effects at the start of a row."""
    return list(takewhile(lambda item: isinstance(item[1], Effect), following))


def split_point(system: nn.Module, nodes: Sequence[Node]) -> Node | None:
    """Return the node at which the passes split, if one pass is enough before it.

    Until noise first enters, all passes are equal. That is certain only where a chain of
    `nn.Sequential` leads directly to a first node without noise of its own. Anywhere else another
    module (behind a skip connection around the node, for example) may use the rows before it.
    """
    link = first_link(system)
    return nodes[0] if is_quiet(link) and link is nodes[0].outlet else None


def first_link(system: nn.Module) -> nn.Module:
    """Return a chain's first module that is no reshape; the system itself if it is no chain."""
    link = system
    while is_chain(link):
        reshapes = (nn.Flatten, nn.Unflatten, nn.Identity)
        link = next((m for m in link.children() if not isinstance(m, reshapes)), nn.Identity())
    return link


def is_quiet(module: nn.Module) -> bool:
    """Return True if the module is deterministic: equal inputs certainly give equal outputs."""
    if isinstance(module, Wrapper):
        return module.deterministic and is_quiet(module.layer)
    return is_builtin(module)


def is_builtin(module: nn.Module) -> bool:
    """Return True if the module is a layer of PyTorch with its original forward()."""
    made = type(module).__module__.startswith("torch.nn.modules.")  # no subclass, parametrization
    return made and has_outer(module) and "forward" not in vars(module)


SETTINGS = (bool, int, float, str, tuple, type(None))
"""Types of the attributes that are settings of a module."""


def settings_between(
    system: nn.Module, nodes: Sequence[Node], inner: Collection[nn.Module]
) -> list[dict[str, Any]] | None:
    """Return the settings of all modules between nodes, if they alone decide what lies there.

    They do in a chain of modules of PyTorch or of this package, without hooks. A `forward()` of
    anyone else may do another thing in every batch.

    Args:
        system: any module.
        nodes: its nodes.
        inner: modules whose insides do not matter either.

    Returns:
        The settings by module; None if other things may decide.

    >>> settings_between(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), (), ()) is None
    False
    """
    outer = [m for node in nodes for m in (node.inlet, node.outlet)]
    inside = {m for module in (*outer, *inner) for m in module.modules()}
    found = []
    for module in system.modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return None
        if module in inside or is_chain(module):
            continue
        known = type(module).__module__.startswith(("torch.nn.modules.", "noisynets."))
        if not known or "forward" in vars(module):
            return None
        found.append({k: v for k, v in vars(module).items() if isinstance(v, SETTINGS)})
    return found if is_chain(system) else None


def other_dtype(node: Node, dtype: torch.dtype) -> str:
    """Say that activities are in another dtype than the weights', as under autocast; '' if not."""
    own = next(node.layer.parameters()).dtype
    if dtype == own:
        return ""
    return (
        f"{node.name!r}: activities are {dtype} where the weights are {own}: leave autocast, or "
        "convert the whole system with .to(dtype)"
    )


def _product(layer: nn.Module) -> nn.Module:
    """Return the layer inside all wrappers."""
    return layer.core[1] if isinstance(layer, Wrapper) else layer


def _declared(system: nn.Module, nodes: Sequence[Node], names: Collection[str]) -> Declared:
    modules = dict(system.named_modules())
    chosen = [modules[name] for name in names if name in modules]
    inside = {m for node in nodes for outer in (node.inlet, node.outlet) for m in outer.modules()}
    kinds = (Physical, Wrapper, Sealed)
    chosen += [m for m in modules.values() if isinstance(m, kinds) and m not in inside]
    return Declared(tuple(chosen), tuple(name for name in names if name not in modules))


def parameters_between(system: nn.Module, nodes: Sequence[Node]) -> dict[str, nn.Parameter]:
    """Return the trained parameters that belong to no node, by path."""
    inside = {id(p) for node in nodes for p in node.layer.parameters()}
    return {
        name: parameter
        for name, parameter in system.named_parameters()
        if parameter.requires_grad and id(parameter) not in inside
    }


@dataclass(frozen=True)
class Declared:
    """What was declared physical.

    Attributes:
        modules: whose operations are.
        operations: words in the names of operations that are, as 'softmax' or 'norm'.
    """

    modules: tuple[nn.Module, ...] = ()
    operations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What the modules of a system say about it before any pass.

    Attributes:
        system: that was surveyed.
        nodes: its nodes.
        populations: by path.
        stateful: modules that keep a state from step to step.
        split: node at which the passes split; None: they are separate from the start.
        parameters: trained parameters that belong to no node, by path.
        physical: what was declared physical.
        builtin: per node, True if its outlet is a layer of PyTorch, whose fresh output may be
            changed in place.
        normalises: per node, True if its layer is a normalisation: not linear in its input.
    """

    system: nn.Module
    nodes: Sequence[Node]
    populations: dict[str, Population]
    stateful: Sequence[Stateful]
    split: Node | None
    parameters: dict[str, nn.Parameter]
    physical: Declared
    builtin: tuple[bool, ...]
    normalises: tuple[bool, ...]


def survey(
    system: nn.Module, nodes: Sequence[Node] | None = None, physical: Collection[str] = ()
) -> Survey:
    """Survey a system.

    Args:
        system: any module.
        nodes: to record; None: all that `find_nodes` finds.
        physical: paths of modules, and names of operations, that are declared physical.

    >>> found = survey(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)))
    >>> [node.name for node in found.nodes], found.split.name, found.builtin
    (['0', '2'], '0', (True, True))
    """
    nodes = find_nodes(system) if nodes is None else nodes
    return Survey(
        system,
        nodes,
        populations(system),
        stateful(system),
        split_point(system, nodes) if nodes else None,
        parameters_between(system, nodes),
        _declared(system, nodes, physical),
        tuple(is_builtin(node.outlet) for node in nodes),
        tuple(is_norm(node.product) for node in nodes),
    )
