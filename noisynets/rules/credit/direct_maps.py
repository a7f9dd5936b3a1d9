"""Maps from the error at the output to a call's credit: learnt, or random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from noisynets.core.noise import generator
from noisynets.core.record import Record
from noisynets.core.types import Node
from noisynets.rules.credit.delivery import Gates, estimates, from_output, graph_of, known_calls
from noisynets.rules.credit.mirror import Maps
from noisynets.rules.credit.state import nested, unnested


class DirectMap(Protocol):
    """A map F from the error e at the output to the credit of a call."""

    def update_(self, estimate: Tensor, error: Tensor, gate: Tensor) -> None:
        """Learn from the rows of a batch: ĝ (B, n), e (B, n_e), and gates (B, n)."""

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""


class RandomMap:
    """F random and fixed.

    Source: direct feedback alignment, Nøkland (2016).

    Args:
        name: of the call; F depends on it and on `seed`.
        seed: of F.

    >>> feedback = RandomMap("layer")
    >>> feedback(torch.ones(4, 3), 5).shape
    torch.Size([4, 5])
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        self._seed, self._purpose = seed, f"feedback from the output to {name}"
        self._map: Tensor | None = None

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""
        if self._map is None:
            drawn_by = generator(self._seed, self._purpose)
            drawn = torch.randn(error.shape[1], n, generator=drawn_by) / error.shape[1] ** 0.5
            self._map = drawn.to(error)
        return error @ self._map

    def update_(self, estimate: Tensor, error: Tensor, gate: Tensor) -> None:
        """Learn nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: the seed determines the map."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""


class LearnedMap:
    """F = S_ge S_ee⁻¹: the node's estimated gradient, regressed on the output's error.

    S_ge and S_ee are running second moments. The predictions of F do not enter its own targets, so
    that the regression is as stable as a mean.

    Source: feedback taught by perturbation, Lansdell, Prakash and Kording, *Learning to solve the
    credit assignment problem* (ICLR 2020).

    Args:
        forgetting: share by which each update replaces what came before.
        ridge: relative to the mean square of e.

    >>> feedback, e = LearnedMap(), torch.randn(500, 2)
    >>> F = torch.tensor([[1.0, -1.0], [0.0, 2.0], [3.0, 0.0]])
    >>> feedback.update_(e @ F.T, e, torch.ones(500, 3))
    >>> bool((feedback(e, 3) - e @ F.T).abs().max() < 0.3)
    True
    """

    def __init__(self, forgetting: float = 0.002, ridge: float = 1e-3) -> None:
        self.forgetting, self.ridge = forgetting, ridge
        self._moments: dict[str, Tensor] = {}
        self._map: Tensor | None = None  # Fᵀ, until the next update
        self._updates = 0

    @torch.no_grad()
    def update_(self, estimate: Tensor, error: Tensor, gate: Tensor) -> None:
        """Learn from the rows of a batch: ĝ (B, n), e (B, n_e), and gates (B, n)."""
        wide = torch.promote_types(error.dtype, torch.float32)
        estimate, error, gate = (t.to(wide) for t in (estimate, error, gate))
        found = {
            "ge": (estimate * gate).T @ error / len(error),
            "ee": error.T @ error / len(error),
            "gate": gate.square().mean(0),
        }
        rate = max(self.forgetting, 1 / (1 + self._updates))  # at first, a plain mean
        old = {k: v.to(error.device) for k, v in self._moments.items()} or found
        sound = torch.stack([new.isfinite().all() for new in found.values()]).all()
        self._moments = {
            name: torch.where(sound, old[name].lerp(new, rate), old[name].nan_to_num())
            for name, new in found.items()
        }
        self._map = None
        self._updates += 1

    def __call__(self, error: Tensor, n: int) -> Tensor:
        """F e for rows: (B, n_e) → (B, n)."""
        if not self._moments:
            return error.new_zeros(len(error), n)
        if self._map is None:
            self._map = self._regressed()
        return (error.to(self._map) @ self._map).to(error.dtype)

    def _regressed(self) -> Tensor:
        """Return Fᵀ, (n_e, n)."""
        ge, ee, gate = (self._moments[name] for name in ("ge", "ee", "gate"))
        scale = ee.diagonal().mean()
        tiny = torch.finfo(ee.dtype).tiny
        ridge = torch.eye(len(ee), dtype=ee.dtype, device=ee.device) * (scale * self.ridge + tiny)
        solved, _ = torch.linalg.solve_ex(ee + ridge, ge.T)
        return solved / (gate + RARE * gate.mean() + tiny)

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return self._moments | ({"n": torch.tensor(self._updates)} if self._moments else {})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._moments, self._map = {k: v for k, v in state.items() if k != "n"}, None
        self._updates = int(state["n"]) if state else 0


def learned_map(name: str) -> LearnedMap:
    """Return a new map for the call of a name."""
    return LearnedMap()


RARE = 0.01
"""Share of the mean square gate that limits the map of units which hardly ever change."""


def paired_rows(
    record: Record, node: Node, gate: Tensor, whole: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the rows between which a call's map goes: those of samples, or of positions.

    Where the output has the positions of a layer that acts on each position by itself, as those of
    a transformer do, one map serves all positions (as Launay et al., *Direct feedback alignment
    scales to modern deep learning tasks and architectures*, 2020). A map of all positions at once
    would be larger by the square of their number.

    Args:
        record: of the pass.
        node: of the call.
        gate: of its activity, (B, *out).
        whole: the flat error, (B, n_e).

    Returns:
        Errors (rows, n_e); and a function that puts activities (B, *out) in rows, (rows, n).
    """
    errors = [e for e in record.error or () if e is not None]
    by_position = isinstance(node.product, nn.Linear | nn.Embedding)
    if by_position and len(errors) == 1 and errors[0].dim() > 2:
        (error,) = errors
        if gate.shape[1:-1] == error.shape[1:-1]:
            return error.flatten(0, -2), lambda t: t.flatten(0, -2)
    return whole, lambda t: t.flatten(1)


class DirectMaps:
    """One map from the error at the output per call of a node.

    Args:
        new: (name of a call) → its map.
        taught: the maps learn from estimates of the gradient.
    """

    def __init__(self, new: Callable[[str], DirectMap], taught: bool) -> None:
        self._new, self.taught = new, taught
        self._maps: dict[str, DirectMap] = {}

    def credits(
        self, record: Record, calls: set[int], maps: Maps, gates: Gates, learns: bool
    ) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
        """Return F e ∘ gate of some calls, and F e of the populations behind them.

        Args:
            record: of the pass.
            calls: that get credit.
            maps: of the nodes, for the noise that entered at each.
            gates: of the units behind the calls.
            learns: update the maps first, from this record.
        """
        graph, whole = graph_of(record), record.flat_error
        estimated: list[Tensor] = []
        found: dict[int, Tensor] = {}
        populations: dict[str, Tensor] = {}
        turns: dict[str, int] = {}
        for call, measured in enumerate(record.calls):
            turn = turns[measured.node.name] = turns.get(measured.node.name, -1) + 1
            if call not in calls:
                continue
            name = f"{measured.node.name}@{turn}"
            direct = self._maps.get(name)
            if direct is None:
                direct = self._maps[name] = self._new(name)
            gate = gates.of_activity(call, record)
            error, rows = paired_rows(record, measured.node, gate, whole)
            if self.taught and learns:
                if not estimated:
                    top, _ = from_output(record, gates)
                    known = known_calls(record)
                    estimated = estimates(record, maps.innovations(record), top, known)
                direct.update_(rows(estimated[call]), error, rows(gate))
            sent = direct(error, rows(gate).shape[1])
            behind = graph.behind.get(call)
            if behind is not None and behind.population:
                populations[behind.population] = sent.view_as(gate)
            found[call] = (sent * rows(gate)).view_as(gate)
        return found, populations

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""
        return nested({name: direct.state() for name, direct in self._maps.items()})

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._maps.clear()
        for name, part in unnested(state).items():
            self._maps[name] = self._new(name)
            self._maps[name].restore(part)
