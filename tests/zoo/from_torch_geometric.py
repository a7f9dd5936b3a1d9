"""torch_geometric: nodes as rows, static graphs as rows, dense graphs, and pools of sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch_geometric.nn as pyg
from architecture import Architecture, With, images
from torch import Tensor, nn
from torch_geometric.nn import models

NODES = 4
EDGES = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 0], [1, 0, 2, 1, 3, 2, 0, 3]])
ADJACENT = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])


def _nodes() -> Tensor:
    """Four nodes of one graph with 3 features: the rows of the batch."""
    return torch.randn(NODES, 3)


def _mlp(inputs: int, outputs: int = 6) -> nn.Module:
    """Layers of PyTorch, for convolutions that take a network."""
    return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, outputs))


def _edges(module: nn.Module, x: Tensor) -> Any:
    return module(x, EDGES)


def _conv(build: Callable[[], nn.Module], call: Any = _edges) -> Callable[[], nn.Module]:
    """A convolution with a read-out of PyTorch's."""

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = build()
            self.head = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(call(self.conv, x).tanh())

    return Read


def _rows(name: str, build: Callable[[], nn.Module], call: Any = _edges) -> Architecture:
    """A graph whose nodes are the rows of the batch."""
    return Architecture(name, _conv(build, call), _nodes, note="nodes as rows")


def _graphs(name: str, build: Callable[[], nn.Module], call: Any = _edges) -> Architecture:
    """A batch of graphs with the same edges, (B, nodes, features)."""
    return Architecture(name, _conv(build, call), images(NODES, 3), note="graphs as rows")


def _model(name: str, kind: Any, **settings: Any) -> Architecture:
    """A model of the package, with nodes as rows."""
    settings = {
        "in_channels": 3,
        "hidden_channels": 6,
        "num_layers": 2,
        "out_channels": 3,
    } | settings
    return Architecture(name, lambda: With(kind(**settings), _edges), _nodes, note="nodes as rows")


def _dense(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, ADJACENT.to(x))


class Pooled(nn.Module):
    """A set of vectors per row, through an aggregation of the package: (B, nodes, 3) → (B, 3)."""

    def __init__(self, aggregation: nn.Module) -> None:
        super().__init__()
        self.inner, self.aggregation, self.outer = _mlp(3), aggregation, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(len(x)).repeat_interleave(x.shape[1])
        pooled = self.aggregation(self.inner(x).flatten(0, 1), rows, dim_size=len(x))
        return self.outer(pooled)


def _pooled(name: str, build: Callable[[], nn.Module]) -> Architecture:
    return Architecture(name, lambda: Pooled(build()), images(NODES, 3), note="sets as rows")


def _points(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, x, EDGES)


ARCHITECTURES = [
    _model("GCN", models.GCN),
    _model("GraphSAGE", models.GraphSAGE),
    _model("GIN", models.GIN),
    _model("GAT", models.GAT, heads=2),
    _model("EdgeCNN", models.EdgeCNN),
    _model("GAT v2, dropout", models.GAT, heads=2, v2=True, dropout=0.3),
    Architecture(
        "SGFormer",
        lambda: With(
            models.SGFormer(3, 6, 3, trans_num_layers=1, gnn_num_layers=1),
            lambda module, x: module(x, EDGES, torch.zeros(len(x), dtype=torch.long)),
        ),
        _nodes,
        note="nodes as rows",
    ),
    _rows("GINConv", lambda: pyg.GINConv(_mlp(3))),
    _rows("EdgeConv", lambda: pyg.EdgeConv(_mlp(6))),
    _rows("PointNetConv", lambda: pyg.PointNetConv(_mlp(6), add_self_loops=False), _points),
    _rows("GCNConv", lambda: pyg.GCNConv(3, 6)),
    _rows("ChebConv", lambda: pyg.ChebConv(3, 6, 2)),
    _rows("TransformerConv", lambda: pyg.TransformerConv(3, 6)),
    _rows("GatedGraphConv", lambda: pyg.GatedGraphConv(6, 2)),
    _rows("ResGatedGraphConv", lambda: pyg.ResGatedGraphConv(3, 6)),
    _graphs("GCNConv, static graph", lambda: pyg.GCNConv(3, 6)),
    _graphs("GINConv, static graph", lambda: pyg.GINConv(_mlp(3))),
    _graphs("EdgeConv, static graph", lambda: pyg.EdgeConv(_mlp(6))),
    _graphs("GraphConv, static graph", lambda: pyg.GraphConv(3, 6)),
    _graphs("DenseGCNConv", lambda: pyg.DenseGCNConv(3, 6), _dense),
    _graphs("DenseGINConv", lambda: pyg.DenseGINConv(_mlp(3)), _dense),
    _graphs("DenseSAGEConv", lambda: pyg.DenseSAGEConv(3, 6), _dense),
    _graphs("DenseGATConv", lambda: pyg.DenseGATConv(3, 6), _dense),
    _pooled("Sum over a set", pyg.SumAggregation),
    _pooled("Softmax over a set", lambda: pyg.SoftmaxAggregation(learn=False)),
    _pooled("Attention over a set", lambda: pyg.AttentionalAggregation(_mlp(6, 1))),
    _pooled("Deep sets", lambda: pyg.DeepSetsAggregation(_mlp(6), _mlp(6))),
    Architecture("MLP", lambda: models.MLP([3, 6, 3], norm="layer_norm"), images(3)),
    Architecture("MLP, batch norm", lambda: models.MLP([3, 6, 3], dropout=0.2), images(3)),
]
