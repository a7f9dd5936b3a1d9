"""Mirrors: learnt estimates of what layers do, from measured differences alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from noisynets.core.outer import is_norm
from noisynets.core.record import NodeRecord, Record
from noisynets.core.types import Node
from noisynets.rules.credit.map import Map
from noisynets.rules.credit.norm_mirror import NormMirror
from noisynets.rules.credit.products import adjoint, as_map, forward, has_product, shown
from noisynets.rules.credit.state import nested, unnested

RIDGE = 0.01
FIRST = 0.02
"""Step size before anything is known about it."""
MEMORY = 0.9
"""Share of what is known about the best step that is kept from one update to the next."""


class ProductMap(ABC):
    """M with δa ≈ M δx: what all maps of linear layers and convolutions have in common.

    Args:
        layer: gives the geometry: no weight is read.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @property
    @abstractmethod
    def map(self) -> Tensor | None:
        """M, (out, in of one product), with groups one per group; None before the first update."""

    def __call__(self, credit: Tensor, x: Tensor) -> Tensor:
        """Mᵀ credit: of the activities (B, *out) → of the inputs, of the shape of x (B, *in)."""
        if self.map is None:
            return credit.new_zeros(x.shape)
        return adjoint(self.layer, self.map.to(credit.dtype), credit, x.shape)

    def predict(self, x: Tensor, shift: Tensor) -> Tensor:
        """M δx, (K, B, *in) → (K, B, *out), after the first update."""
        assert self.map is not None, "maps learn before they predict"
        made = forward(self.layer, self.map.to(shift.dtype), shift.flatten(0, 1))
        return made.unflatten(0, shift.shape[:2])

    def as_map(self, weight: Tensor) -> Tensor:
        """Return the map of the layer without effects, if its `weight` had these values."""
        return as_map(self.layer, weight)


class Mirror(ProductMap):
    """M with δa ≈ M δx, by affine projections whose step size is measured.

    M ← M + μ D, with D = Eᵀ (δX δXᵀ + λ)⁻¹ δX the smallest change that explains the rows δX
    (N, n_in), whose error was E = δA − δX Mᵀ. The *next* rows show how much of D was signal: of
    their error before that step, μ = ⟨E, δX Dᵀ⟩/‖δX Dᵀ‖² is the share of D that would have
    explained most. Steps are therefore whole while M is far off or the measurements are clean, and
    small when mostly noise is left. For 0 ≤ μ ≤ 1 the error on the given rows never grows, for any
    spectrum of the inputs; plain LMS is stable only for small steps, and slow along weak
    directions. Every group of a grouped convolution has a map and a step size of its own.

    Source: affine projections, Ozeki and Umeda (1984). Related: the weight mirrors of Akrout et
    al., *Deep learning without weight transport* (2019).

    Args:
        layer: gives the geometry: no weight is read.
        rows: used in one update, at most.

    Attributes:
        lag: see `Map`.
    """

    learns = True
    lag: Tensor | None = None

    def __init__(self, layer: nn.Module, rows: int = 128) -> None:
        super().__init__(layer)
        self.rows = rows
        self._map: Tensor | None = None
        self._step: Tensor | None = None  # D of the last update
        self._known: Tensor | None = None  # running ⟨E, δX Dᵀ⟩, ‖δX Dᵀ‖², ‖δx‖²; the last μ
        self._updates = 0

    @torch.no_grad()
    def update_(self, x: Tensor, shift: Tensor, made: Tensor) -> None:
        """Learn from differences; see `Map`."""
        inputs, outputs = shift.flatten(0, 1), made.flatten(0, 1)
        x, a = shown(self.layer, inputs, outputs, self.rows, self._updates)
        wide = torch.promote_types(x.dtype, torch.float32)  # Cholesky needs at least float32
        x, a = x.to(wide), a.to(wide)
        if self._map is None or self._step is None or self._known is None:
            groups = x.shape[:-2]
            self._map = x.new_zeros(*groups, a.shape[-1], x.shape[-1])
            self._step, self._known = torch.zeros_like(self._map), x.new_zeros(4, *groups)
            self._known[3] = FIRST
        error = a - x @ self._map.mT
        small = x.dim() > 2 and x.shape[-1] < x.shape[-2]  # (X Xᵀ + λ)⁻¹ X = X (Xᵀ X + λ)⁻¹
        gram = x.mT @ x if small else x @ x.mT
        square = gram.diagonal(dim1=-2, dim2=-1)
        known = self._measured(error, x @ self._step.mT, square.sum(-1) / x.shape[-2], a)
        _, _, size, share = known
        ridge = RIDGE * (1 - MEMORY) * size + torch.finfo(x.dtype).tiny
        square.add_(ridge.unsqueeze(-1))
        root = torch.linalg.cholesky_ex(gram).L
        if small:
            step = torch.cholesky_solve(x.mT @ error, root).mT
        else:
            step = torch.cholesky_solve(error, root).mT @ x
        sound = step.isfinite().all() & known.isfinite().all()
        self._step = torch.where(sound, step, 0)
        moved = self._map + share[..., None, None] * self._step
        self._map = torch.where(sound, moved, self._map)
        self._known = torch.where(sound, known, self._known)
        self._updates += 1

    def _measured(self, error: Tensor, predicted: Tensor, square: Tensor, a: Tensor) -> Tensor:
        """Return the running statistics of the step size, updated with fresh rows; note the lag."""
        assert self._known is not None
        top, bottom, size, share = self._known
        before = error + share[..., None, None] * predicted  # their error without the last step
        explained = (before * predicted).sum((-2, -1))
        self.lag = explained.sum() / a.square().sum()
        top = MEMORY * top + explained
        bottom = MEMORY * bottom + predicted.square().sum((-2, -1))
        share = torch.where(bottom > 0, top / bottom, share).clamp(0, 1)
        return torch.stack([top, bottom, MEMORY * size + square, share])

    @property
    def map(self) -> Tensor | None:
        """M, (out, in of one product), with groups one per group; None before the first update."""
        return self._map

    @map.setter
    def map(self, value: Tensor) -> None:
        self._map = value

    def follow_(self, change: Tensor) -> None:
        """Take over a change of the weights, of the shape of M; nothing before the first update."""
        if self._map is not None:
            self._map = self._map + change

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        if self._map is None or self._step is None or self._known is None:
            return {}
        n = torch.tensor(self._updates)
        return {"map": self._map, "step": self._step, "known": self._known, "n": n}

    def restore(self, state: dict[str, Tensor], device: torch.device) -> None:
        """Continue from a `state`."""
        self._map, self._step, self._known = (
            state[name].to(device) if state else None for name in ("map", "step", "known")
        )
        self._updates = int(state["n"]) if state else 0


def has_mirror(layer: nn.Module) -> bool:
    """Return True if a mirror of a layer can be learnt.

    >>> has_mirror(nn.LayerNorm(2)), has_mirror(nn.Embedding(2, 2))
    (True, False)
    """
    return is_norm(layer) or has_product(layer)


def new_mirror(layer: nn.Module, rows: int = 128) -> Mirror | NormMirror:
    """Return a new mirror of a layer.

    Args:
        layer: with `has_mirror`.
        rows: used in one update, at most.
    """
    return NormMirror(layer, rows) if is_norm(layer) else Mirror(layer, rows)


def mirror_of(node: Node) -> Mirror | NormMirror:
    """Return a new mirror of a node."""
    return new_mirror(node.product)


def sent_through(known: Map, credit: Tensor, call: NodeRecord) -> Tensor:
    """Return the credit of the raw input of a call; of sampled steps, their mean."""
    if not call.sampled:
        return known(credit, call.raw)
    return torch.stack([known(credit, step.raw) for step in call.sampled]).mean(0)


def in_turn(records: Sequence[NodeRecord], turn: int) -> list[NodeRecord]:
    """Return one record per node: the calls of a node take turns."""
    calls: dict[str, list[NodeRecord]] = {}
    for record in records:
        calls.setdefault(record.node.name, []).append(record)
    return [same[turn % len(same)] for same in calls.values()]


class Maps:
    """One map per node: what the node makes of a difference of its inputs."""

    def __init__(self, new: Callable[[Node], Map]) -> None:
        self._new = new
        self._maps: dict[str, Map] = {}
        self._kept: dict[str, dict[str, Tensor]] = {}
        self._updates = 0

    def update_(self, record: Record) -> None:
        """Learn the map of every node; the calls of a node take turns."""
        fed = [c for c in record.calls if c.shift is not None and self._can_learn(c.node)]
        for call in in_turn(fed, self._updates):
            known = self._known(call.node)
            if known is None:
                known = self._maps[call.node.name] = self._new(call.node)
            step = call.sampled[self._updates % len(call.sampled)] if call.sampled else call
            assert step.shift is not None
            made = step.delta if step.xi is None else step.delta - step.xi
            known.update_(step.raw, step.shift, made)
        self._updates += 1

    @property
    def lag(self) -> Tensor | None:
        """Sum of what is known of the lag of all maps: of credit that has passed them all."""
        known = [m.lag for m in self._maps.values() if m.lag is not None]
        return torch.stack(known).sum() if known else None

    def get(self, node: Node) -> Map | None:
        """Return the map of a node; None if there is none yet."""
        return self._known(node)

    def _can_learn(self, node: Node) -> bool:
        return node.name in self._maps or has_mirror(node.product)

    def _known(self, node: Node) -> Map | None:
        """Return the map of a node, restoring it first if a saved state waits for the node."""
        if node.name in self._kept:
            known = self._maps[node.name] = self._new(node)
            known.restore(self._kept.pop(node.name), next(node.layer.parameters()).device)
        return self._maps.get(node.name)

    def innovations(self, record: Record) -> list[Tensor]:
        """ε = δa − M δx, per call (K, B, *out): the noise that entered at the node itself."""
        return [self._innovation(call) for call in record.calls]

    def _innovation(self, call: NodeRecord) -> Tensor:
        if call.xi is not None:
            return call.xi
        known = self._known(call.node)
        if call.shift is None or known is None:
            return call.delta
        return call.delta - known.predict(call.raw, call.shift)

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        found = nested(self._kept | {name: known.state() for name, known in self._maps.items()})
        return found | {"updates": torch.tensor(self._updates)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`; a map is restored when its node is first used."""
        self._maps.clear()
        self._updates = int(state["updates"])
        self._kept = unnested({k: v for k, v in state.items() if k != "updates"})
