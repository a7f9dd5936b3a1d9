"""Checks that refuse systems whose estimates would be wrong, or parameters not trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.rnn import RNNCellBase
from torch.nn.parameter import UninitializedParameter

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.graph import Graph, operation_names
from noisynets.core.nodes import find_nodes, innermost, is_quiet, other_dtype
from noisynets.core.noise import copied_sources
from noisynets.core.notes import Notes
from noisynets.core.outer import (
    has_outer,
    is_norm,
    kind_of,
    outer,
    overridden,
    own_names,
    registered_parent,
    unsupported,
)
from noisynets.core.pages import Page
from noisynets.core.paired import Where, is_stochastic
from noisynets.core.record import NodeRecord, Record
from noisynets.core.trees import leaves
from noisynets.core.types import Effect, Node, Sealed, Wrapper

TRAINABLE = "Linear, Embedding, convolutions, transposed convolutions and normalisations"
FUSED = (nn.RNNBase, RNNCellBase, nn.MultiheadAttention)
"""Modules that multiply with several weights in one call."""
_INHERITED = ("weight", "bias")  # what a subclass's product, its parent's, knows of


def check(
    system: nn.Module, without: Collection[nn.Module] = (), devices: bool = False
) -> list[Node]:
    """Return the nodes of a system that node perturbation can train.

    Args:
        system: any module.
        without: layers that are no nodes, though they have weights.
        devices: frozen layers in wrappers are nodes; see `find_nodes`.

    Raises:
        SystemRefused: naming every module that stands in the way, what was found there and
            what to do about it.

    >>> check(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.SystemRefused: '1' (LSTM): hides its products in a fused kernel: train \
noisynets.unfused(model) instead (see docs/how-to/rules.md#what-is-refused)
    """
    nodes = find_nodes(system, without, devices)
    problems = [
        f"{name or 'the system itself'!r} ({type(module).__name__}): {problem}"
        for name, module in system.named_modules()
        for problem in [_mixes(module) or _untrainable(module, nodes)]
        if problem and module not in without
    ]
    problems += _misplaced(system, nodes) + _same_noise(system)
    if not problems and not nodes:
        problems = [f"nothing to train: no layer with weights was found ({TRAINABLE})"]
    if problems:
        raise SystemRefused("; ".join(problems))
    return nodes


def check_called(nodes: Sequence[Node], calls: Sequence[NodeRecord]) -> None:
    """Refuse a system whose forward pass does not call all of its layers.

    Raises:
        SystemRefused: naming the layers: their weights would be left untrained.
    """
    silent = {node.name for node in nodes} - {call.node.name for call in calls}
    if silent:
        names = ", ".join(repr(name) for name in sorted(silent))
        raise SystemRefused(
            f"{names}: never called in the forward pass, so its weights would stay untrained: "
            "call the layer itself, or freeze it with requires_grad_(False)"
        )


def check_output(record: Record, outputs: Any) -> None:
    """Refuse a system whose output is not computed from activities alone, as far as is known.

    Of several tensors, one that no activity reaches is no obstacle.

    Args:
        record: of the passes, with a graph.
        outputs: of the system, in all passes.

    Raises:
        SystemRefused: naming the operation that no credit passes.
    """
    graph = record.graph
    assert graph is not None, "feedback needs the graph"
    if not any(graph.outputs) or graph.hidden or _lost(record, graph, outputs):
        what = f" through {graph.hidden[0]!r}" if graph.hidden else ""
        advice = (
            "over a trial, make Spiking(network, steps, readout) the whole system, and call "
            "each layer once per step"
            if graph.over_trial
            else "feedback starts from the error at the output: leave such a step to the loss"
        )
        raise SystemRefused(f"the output is not made of activities alone{what}: {advice}")


def _lost(record: Record, graph: Graph, outputs: Any) -> bool:
    """Return True if passes differ in an output that gets an error, and that no trace leads to."""
    passes = 1 + len(record.dloss)
    for made, error, t in zip(graph.outputs, record.error or (), leaves(outputs), strict=False):
        if made is None and error is not None:
            rows = t.unflatten(0, (passes, -1))
            if bool((rows != rows[:1]).any()):
                return True
    return False


def check_named(names: Sequence[str], graph: Graph) -> None:
    """Refuse names of physical operations that are no operation's.

    Args:
        names: as the user gave them; those of modules are left out.
        graph: of the first batch.

    Raises:
        InputError: naming them, and what there is.
    """
    missing = sorted(set(names) - graph.physical)
    if missing:
        raise InputError(
            f"physical {', '.join(map(repr, missing))}: no module and no operation between the "
            f"nodes; there are {', '.join(operation_names(graph))}"
        )


def check_noisy(calls: Sequence[NodeRecord]) -> None:
    """Refuse, in intrinsic mode, a system with a node that has no noise in any call.

    Raises:
        SystemRefused: naming the nodes.
    """
    names = {r.node.name for r in calls}
    quiet = names - {r.node.name for r in calls if bool(r.delta.any())}
    if quiet:
        raise SystemRefused(
            f"{', '.join(map(repr, sorted(quiet)))}: two passes gave the same activities: with "
            "sigma=None the system needs noise of its own at every node (wrap the layer: "
            "Noisy(layer, effect)); otherwise give a sigma to inject",
            page=Page.OWN_NOISE,
        )


def warn_quiet(calls: Sequence[NodeRecord], notes: Notes) -> None:
    """Warn, in intrinsic mode, of layers that add no noise of their own.

    Their measured differences are W δx, which upstream noise alone determines: a raw rule trains
    such a layer along few directions. Its differences also count in the norm, so that the layers
    before it are trained worse as well.
    """
    quiet = sorted({r.node.name for r in calls if is_quiet(r.node.outlet)})
    if quiet:
        notes.warn(
            "quiet nodes",
            f"{', '.join(map(repr, quiet))}: no noise of its own, so that its differences come "
            "from upstream alone, and a raw rule trains the system badly: use mirrored or learned "
            "credit, or wrap the layer: Noisy(layer, effect)",
        )


def check_acting(system: nn.Module) -> None:
    """Refuse batch statistics and random masks in a network that acts.

    The passes of a pair act in different states, and cannot share them.

    Raises:
        SystemRefused: naming the modules.
    """
    named = system.named_modules()
    found = [(name, type(module).__name__, "") for name, module in named if is_stochastic(module)]
    if found:
        raise SystemRefused(not_acting(found), page=Page.POLICIES)


def check_between(parameters: Collection[str]) -> None:
    """Refuse trained parameters between the nodes of a network that acts, under a raw rule.

    Raises:
        SystemRefused: naming them.
    """
    if parameters:
        raise SystemRefused(
            f"{', '.join(map(repr, parameters))}: belongs to no layer, and raw rules train the "
            "layers of a network that acts alone: use a feedback rule (RollOutFeedback), or freeze "
            "it with requires_grad_(False)"
        )


def not_acting(found: Iterable[Where]) -> str:
    """Return that modules have no place in a network that acts."""
    each = dict.fromkeys(f"{path or 'the system itself'!r} ({kind})" for path, kind, _ in found)
    names = ", ".join(each)
    return (
        f"{names}: uses batch statistics or draws random numbers, which passes that act in "
        "different states cannot share: remove it, or switch it off with noisynets.freeze or eval()"
    )


def warn_unfrozen(system: nn.Module, notes: Notes) -> None:
    """Warn of batch normalisations with frozen weights that are in training mode.

    `train()` puts every module in training mode, also one that was frozen with `eval()` before.
    """
    names = [
        repr(name)
        for name, module in system.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.affine
        if not any(p.requires_grad for p in module.parameters())
    ]
    if names:
        notes.warn(
            "unfrozen statistics",
            f"{', '.join(names)}: weight and bias are frozen, but in training mode the running "
            "statistics are updated: noisynets.freeze(module) freezes them, also for a later "
            "train()",
        )


def warn_fixed_statistics(system: nn.Module, notes: Notes) -> None:
    """Warn, under a raw rule, of batch statistics.

    Noise does not move the statistics of the reference pass, so that loss differences show the
    gradient at fixed mean and variance.
    """
    names = [
        repr(name or "the system itself")
        for name, module in system.named_modules()
        if isinstance(module, _BatchNorm) and is_stochastic(module)
    ]
    if names:
        notes.warn(
            "fixed statistics",
            f"{', '.join(names)}: batch statistics, which a raw rule takes for constants: its "
            "gradient may be nearly orthogonal to the whole one: use GroupNorm or LayerNorm, "
            "noisynets.freeze, or weight perturbation",
        )


def check_open(system: nn.Module) -> None:
    """Refuse to inject noise into a system, or a part of one, that is computed elsewhere.

    Raises:
        SystemRefused: naming the part.
    """
    for name, module in system.named_modules():
        if isinstance(module, Sealed):
            raise SystemRefused(
                f"{name or 'the system itself'!r} ({type(module).__name__}): computes its "
                "activities elsewhere, so that no noise can be injected: use sigma=None, for its "
                "own noise"
            )


def check_dtype(calls: Sequence[NodeRecord]) -> None:
    """Refuse activities in another dtype than the weights', as under autocast.

    Raises:
        SystemRefused: naming the nodes.
    """
    for call in calls:
        if problem := other_dtype(call.node, call.delta.dtype):
            raise SystemRefused(problem)


def _mixes(module: nn.Module) -> str:
    trained = any(p.requires_grad for p in module.parameters())
    if isinstance(module, nn.SyncBatchNorm) and module.training:
        return (
            "mixes the passes of a pair through statistics of several processes: use BatchNorm, or "
            "noisynets.freeze it"
        )
    if isinstance(module, FUSED) and trained and not has_outer(module):
        return _fused(type(module))
    if isinstance(module, Wrapper) and trained and not has_outer(innermost(module)):
        if registered_parent(type(innermost(module))) is not None:
            return ""  # the layer itself is named
        return (
            f"wraps {type(innermost(module)).__name__}, which is no single layer: wrap each "
            "layer by itself"
        )
    return ""


def _fused(kind: type) -> str:
    original = next(c for c in kind.__mro__ if c.__module__.startswith("torch.nn.modules."))
    own = own_names(kind, original)
    if not own:
        return "hides its products in a fused kernel: train noisynets.unfused(model) instead"
    return (
        f"is a {original.__name__} with its own {', '.join(own)}, which hides its products in a "
        "fused kernel and which noisynets.unfused leaves as it is: write its products with "
        "nn.Linear"
    )


def _misplaced(system: nn.Module, nodes: Sequence[Node]) -> list[str]:
    """Return a message for each effect that has no effect in its place, or is used twice."""
    wrappers = [module for module in system.modules() if isinstance(module, Wrapper)]
    held = [effect for wrapper in wrappers for effect in getattr(wrapper, "effects", ())]
    outlets = [node.outlet for node in nodes]
    problems = []
    for name, module in system.named_modules():
        if not isinstance(module, Effect):
            continue
        where = f"{name!r} ({type(module).__name__})"
        if module.acts_within and module not in held:
            problems.append(f"{where}: acts inside a layer: wrap it: Noisy(layer, effect)")
        keeps = any(m._buffers for m in module.modules())
        if outlets.count(module) > 1 or (keeps and held.count(module) > 1):
            problems.append(f"{where}: stands behind two layers: give each its own")
    return problems


def _same_noise(system: nn.Module) -> list[str]:
    """Return a message for each group of modules that draw the same random numbers."""
    return [
        f"{', '.join(map(repr, names))}: draw the same random numbers, from equal seeds or because "
        "one is a copy of the other: make each with a seed of its own, or with seed=None"
        for names in copied_sources(system)
    ]


def _untrainable(module: nn.Module, nodes: Sequence[Node]) -> str:
    if isinstance(next(module.parameters(recurse=False), None), UninitializedParameter):
        return "has no shape yet: run one forward pass first"
    if unsupported(module) and any(p.requires_grad for p in module.parameters()):
        names = unsupported(module)
        return f"has {', '.join(names)}, which no rule follows: leave it out"
    kind = kind_of(module)
    registered = kind in outer.registry
    layers = {m for node in nodes for m in node.layer.modules()}
    trained = [(n, p) for n, p in module.named_parameters(recurse=False) if p.requires_grad]
    if any(p.is_complex() for _, p in trained):
        return (
            "has complex weights, whose gradient no rule estimates: use two real layers, for the "
            "real and the imaginary part"
        )
    names = [
        name
        for name, parameter in trained
        if not (module in layers and has_outer(module) and (registered or name in _INHERITED))
    ]
    if not names:
        return ""
    parent = registered_parent(kind)
    if parent is None or is_norm(module):
        return ""  # between the nodes: credit from the trace, or weight perturbation
    changed = overridden(kind, parent)
    if changed:
        return (
            f"is a {parent.__name__} with its own {', '.join(changed)}, so that its product may "
            "differ: register it with outer.register, or, if it is that of its parent, by "
            f"outer.register({_class(kind)}, outer.dispatch({_class(parent)}))"
        )
    return (
        f"trains {', '.join(names)}, which no rule reaches ({TRAINABLE} are): use one of these, "
        "register its product with noisynets.core.outer, or freeze it with requires_grad_(False)"
    )


def _class(kind: type) -> str:
    """Return the name of a class, with its module: packages have a Linear of their own."""
    inherited = kind.__module__.startswith("torch.nn.modules.")
    return f"nn.{kind.__name__}" if inherited else f"{kind.__module__}.{kind.__qualname__}"
