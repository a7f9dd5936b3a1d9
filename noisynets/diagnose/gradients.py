"""The true gradient by autograd, for nodes that have one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.losses import losses
from noisynets.core.trial import populations, trial
from noisynets.core.types import Loss, Node


def of_weights(node: Node) -> Tensor | None:
    """Return `.grad` of a node's trained parameters as one vector; None if all of them are None."""
    found = [p for p in node.layer.parameters() if p.requires_grad]
    if all(p.grad is None for p in found):
        return None
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in found])


def true_gradients(
    system: nn.Module,
    nodes: Sequence[Node],
    loss: Loss,
    x: Tensor,
    y: Tensor,
    draws: int,
) -> dict[str, Tensor | None]:
    """Return ∂(mean loss)/∂weights of every node by autograd, averaged over the system's noise.

    Args:
        system: the system.
        nodes: its nodes.
        loss: loss per sample.
        x: inputs (B, ...).
        y: targets (B, ...).
        draws: number of draws of the system's noise.

    Returns:
        Gradients by node, each one vector. None if there is no derivative: the output does not
        depend on the weights for autograd, or a module between the node and the output has no
        useful derivative.
    """
    sums: dict[str, Tensor | None] = {node.name: None for node in nodes}
    for _ in range(draws):
        system.zero_grad()
        with trial(system), torch.enable_grad(), _without_gradient(system, nodes) as flat:
            try:
                mean = losses(loss, system(x), y).mean()
                if mean.requires_grad:
                    mean.backward()
            except RuntimeError:  # a tensor was changed in place, or computed outside autograd
                system.zero_grad()
        for node in nodes:
            g = of_weights(node)
            if g is None or node in flat() or not bool(g.any()):
                continue
            before = sums[node.name]
            sums[node.name] = g.clone() if before is None else before + g
    system.zero_grad()
    return {name: None if total is None else total / draws for name, total in sums.items()}


def is_surrogate(system: nn.Module) -> bool:
    """Return True if autograd uses surrogate derivatives of spikes in this system."""
    return bool(populations(system))


@contextmanager
def _without_gradient(
    system: nn.Module, nodes: Sequence[Node]
) -> Iterator[Callable[[], set[Node]]]:
    """Find the nodes that are called before a module without a useful derivative.

    The output of such a module does not require a gradient although its input does, or its
    derivative is zero everywhere. Operations outside modules are not examined.
    """
    called: list[Node] = []
    flat: set[Node] = set()

    def note_call(node: Node) -> Callable[..., None]:
        return lambda *_: called.append(node)

    def test_derivative(module: nn.Module, args: Any, output: Any) -> None:
        given = args[0] if args else None
        if not isinstance(given, Tensor) or not isinstance(output, Tensor) or output is given:
            return
        if not given.requires_grad or not given.is_floating_point():
            return
        if not output.requires_grad:
            flat.update(called)
            return
        (slope,) = torch.autograd.grad(output.sum(), given, retain_graph=True, allow_unused=True)
        if slope is None or not bool(slope.any()):
            flat.update(called)

    handles = [node.outlet.register_forward_hook(note_call(node)) for node in nodes]
    inside = {module for node in nodes for module in node.inlet.modules()}
    for module in system.modules():
        leaf = not any(True for _ in module.children())
        if leaf and module not in inside and not any(True for _ in module.parameters()):
            handles.append(module.register_forward_hook(test_derivative))
    try:
        yield lambda: flat
    finally:
        for handle in handles:
            handle.remove()
