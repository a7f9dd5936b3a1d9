"""Layers whose outputs have no rows of a batch, as an embedding of positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.batch import called, stacked
from noisynets.core.trial import trial
from noisynets.core.types import Node
from noisynets.core.verify.snapshot import Snapshot, global_streams


@torch.no_grad()
def rowless(system: nn.Module, nodes: Sequence[Node], inputs: Any) -> list[Node]:
    """Return the nodes whose outputs have the same shape however many passes are stacked.

    Args:
        system: any module; it is left as it was.
        nodes: its nodes.
        inputs: (B, ...), or a tree.

    Cost: two passes, of one and of two copies of the batch.

    >>> from noisynets.core.nodes import find_nodes
    >>> class Positions(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.table, self.layer = nn.Embedding(3, 2), nn.Linear(2, 1)
    ...     def forward(self, x):
    ...         return self.layer(x + self.table(torch.arange(3)))
    >>> net = Positions()
    >>> [node.name for node in rowless(net, find_nodes(net), torch.zeros(4, 3, 2))]
    ['table']
    """
    restore, snapshot = global_streams(), Snapshot(system)
    try:
        one, two = (_shapes(system, nodes, inputs, passes) for passes in (1, 2))
    finally:
        snapshot.restore()
        restore()
    return [node for node in nodes if node in one and one[node] == two.get(node)]


def _shapes(
    system: nn.Module, nodes: Sequence[Node], inputs: Any, passes: int
) -> dict[Node, torch.Size]:
    """Return the shape of every node's first output."""
    shapes: dict[Node, torch.Size] = {}

    def watch(node: Node) -> RemovableHandle:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(node, output.shape)

        return node.outlet.register_forward_hook(hook)

    handles = [watch(node) for node in nodes]
    try:
        with trial(system):
            called(system, stacked(inputs, passes))
    finally:
        for handle in handles:
            handle.remove()
    return shapes
