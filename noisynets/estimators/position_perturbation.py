"""PositionPerturbation: every position of a sequence is a population of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError, SystemRefused
from noisynets.core.links import entering, holders, links
from noisynets.core.losses import losses_at
from noisynets.core.nodes import Survey, split_point
from noisynets.core.noise import Injection
from noisynets.core.notes import Note
from noisynets.core.probe import Probe, Rows, reference_rows
from noisynets.core.record import Needs, NodeRecord
from noisynets.core.types import Estimate, Loss, Node
from noisynets.estimators.node_perturbation import Credited, NodePerturbation, Surveyed
from noisynets.estimators.obstacles import LOOKS, Batch, Obstacles
from noisynets.estimators.possible import check_system
from noisynets.rules import NP, Assigned, StepCredit

NOISE = Needs(injection=True, noise=True)
BY_POSITION = nn.Linear | nn.Embedding | nn.LayerNorm | nn.RMSNorm
"""Layers that act on each position by itself, so that their outputs are (B, T, n). In those of
convolutions, of shape (B, n, T), a number of channels that equals T is no positions."""


class PositionPerturbation:
    """Node perturbation of one node at a time, in which each position has its own loss difference.

    credit_t = c_t + (1/Kσ²) Σ_k r_t ξ_t,  r_t = Σ_{s≥t} γ^(s−t) (Δℓ_s − ξ_s·c_s)

    for noise ξ_t at position t of one node, the change Δℓ_s of the loss at position s, and a credit
    c that is already known, or 0. Each position is told from the others by its own differences, so
    that the variance grows with the numbers at one position, not with those of the network. For
    γ = 1 and small noise it is unbiased in a causal network, whose position t changes no loss
    before it; below 1 it trades bias for variance. A known c is a control variate: only what
    it does not predict has variance.

    A node without the positions of the loss, as a convolution, has the sum of all differences: with
    one loss per row this is node perturbation of one node at a time.

    Args:
        system: any module.
        loss: (outputs (R, T, ...), targets (R, T)) → (R, T); or one loss per row, (R,).
        sigma: standard deviation of the injected noise, or an `Injection`.
        resamples: K, noisy passes per node.
        discount: γ.
        seed: of the noise.
        known: gives c in passes of its own, as `NodePerturbation(system, loss, "mirrored")` does;
            None: c = 0.
        verify: check the system on the first batch; see `noisynets.core.verify`.

    Raises:
        InputError: for an impossible setting.
        SystemRefused: if parameters between the nodes would not be trained.

    Cost: (1 + K) B sample-forwards per node, and those of `known`. In a chain of deterministic
    modules they begin with the link that holds the node, behind one pass of B rows, and are counted
    as whole ones.

    Source: Dust (Q Labs, 2026), node perturbation with one population per token.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> estimator = PositionPerturbation(net, nn.CrossEntropyLoss(reduction="none"), resamples=4)
    >>> estimator(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])).sample_forwards
    55
    """

    def __init__(
        self,
        system: nn.Module,
        loss: Loss,
        *,
        sigma: float | Injection = 1e-2,
        resamples: int = 16,
        discount: float = 1.0,
        seed: int = 0,
        known: NodePerturbation | None = None,
        verify: bool = True,
    ) -> None:
        check_system(system, resamples)
        if not 0 <= discount <= 1:
            raise InputError(f"a discount of {discount:g} must be within 0..1")
        self.system, self.loss = system, loss
        self.resamples, self.discount, self.known = resamples, discount, known
        self.injection = sigma if isinstance(sigma, Injection) else Injection(sigma, seed=seed)
        self._surveyed = Surveyed(system, NP(), self.injection, verifies=verify)
        self._rows, self._obstacles = Rows(), Obstacles(system, passes=verify)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the estimator has warned of, each kind once."""
        return (*self._obstacles.notes, *(() if self.known is None else self.known.notes))

    @torch.no_grad()
    def __call__(self, inputs: Any, targets: Any) -> Estimate:
        """Accumulate the estimate in `.grad`; inputs (B, ...), targets (B, ...), or trees."""
        inputs, targets, batch = self._rows(inputs, targets)
        current = self._surveyed.survey()
        if self._surveyed.verified < min(batch, 2):
            current = self._surveyed.verify(self.loss, inputs, targets, batch)
        known = self.known and self.known.credit(inputs, targets)
        between = known.assigned.parameters if known else {}
        _check_parameters(current, between)
        given = _by_node(known) if known else {}
        calls, credits, loss, outputs = [], [], torch.empty(0), None
        linked = links(current) if isinstance(inputs, Tensor) else [current.system]
        starts = entering(linked, inputs)
        for node, at in zip(current.nodes, holders(linked, current.nodes), strict=True):
            alone = _alone(current, node, linked[at:])
            probe, outputs, loss = self._passes(alone, starts[at], targets, batch)
            of_node = chain(given.get(node.name, ()), repeat(None))
            for call, before in zip(probe.calls, of_node, strict=False):
                calls.append(call)
                credits.append(credit(call, loss, self.discount, before))
        self._surveyed.check_first(calls, self._obstacles.notes)
        loss = loss.reshape(*loss.shape[:2], -1).sum(2)
        self._obstacles.steps += 1
        if self._obstacles.steps in LOOKS:
            sigma = self.injection.sigma
            self._obstacles.look(Batch(inputs, batch, outputs, loss, sigma, reads_dloss=True))
        forwards = len(current.nodes) * loss.numel() + batch * (len(linked) > 1)
        forwards += known.estimate.sample_forwards if known else 0
        reference = reference_rows(outputs, batch, 1 + self.resamples)
        estimate = Estimate(loss[0], reference, forwards)
        Credited(estimate, calls, Assigned(credits, between), current).accumulate_()
        return estimate

    def _passes(
        self, alone: Survey, inputs: Any, targets: Any, batch: int
    ) -> tuple[Probe, Any, Tensor]:
        """Return the closed probe of one node, outputs, and losses (1 + K, B) or (1 + K, B, T)."""
        probe = Probe(
            alone,
            batch=batch,
            resamples=self.resamples,
            injection=self.injection,
            needs=NOISE,
            pairs=self._surveyed.pairs,
        )
        with probe:
            outputs = probe.call(inputs)
        rows = (1 + self.resamples) * batch
        loss = losses_at(self.loss, outputs, probe.repeat(targets), rows)
        loss = loss.flatten(1).sum(1) if loss.dim() > 2 else loss
        return probe, outputs, loss.unflatten(0, (-1, batch))

    def state(self) -> dict[str, Tensor]:
        """Return the state of the noise, and that of `known`."""
        found = {"stream": self.injection.stream.state(), "looks": self._obstacles.state()}
        known = {} if self.known is None else self.known.state()
        return found | {f"known|{name}": value for name, value in known.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.injection.stream.restore(state["stream"])
        self._obstacles.restore(state.get("looks"))
        if self.known is not None:
            known = {
                n.removeprefix("known|"): v for n, v in state.items() if n.startswith("known|")
            }
            self.known.restore(known)


def credit(call: NodeRecord, loss: Tensor, discount: float, known: Tensor | None = None) -> Tensor:
    """Return the credit of one call, (B, *out).

    Args:
        call: in the passes that perturb its node alone.
        loss: of these passes, (1 + K, B) or (1 + K, B, T).
        discount: γ.
        known: c, (B, *out); None: 0.
    """
    assert call.xi is not None and call.sigma is not None, "noise is recorded"
    xi, batch = call.xi, loss.shape[1]
    change = (loss[1:] - loss[0]).to(xi.dtype) / batch
    apart = isinstance(call.node.product, BY_POSITION) and xi.dim() > 3
    if change.dim() == 3 and not (apart and xi.shape[2] == change.shape[2]):
        change = change.sum(2)  # the node has no positions
    if known is not None:
        change = change - (xi * known).flatten(change.dim()).sum(-1)
    if change.dim() == 3:
        change = to_go(change, discount)
    factor = change / (len(xi) * call.sigma**2)
    found = (factor.reshape(*factor.shape, *[1] * (xi.dim() - factor.dim())) * xi).sum(0)
    return found if known is None else found + known


def to_go(changes: Tensor, discount: float) -> Tensor:
    """Return r_t = Σ_{s≥t} γ^(s−t) Δℓ_s: (..., T) → (..., T).

    >>> to_go(torch.tensor([1.0, 0.0, 4.0]), 0.5)
    tensor([2., 2., 4.])
    """
    steps = torch.arange(changes.shape[-1], device=changes.device)
    ahead = steps[:, None] - steps
    weights = torch.where(ahead >= 0, discount ** ahead.clamp_min(0).to(changes.dtype), 0)
    return changes @ weights


def _alone(survey: Survey, node: Node, rest: Sequence[nn.Module]) -> Survey:
    """Return the survey of what is left of a system, of which one node is perturbed and recorded.

    Args:
        survey: of the whole system.
        node: that is perturbed.
        rest: links from that of the node on.
    """
    at = list(survey.nodes).index(node)
    system = nn.Sequential(*rest) if len(rest) > 1 else rest[0]
    return replace(
        survey,
        system=system,
        nodes=[node],
        split=split_point(system, [node]),
        builtin=survey.builtin[at : at + 1],
        normalises=survey.normalises[at : at + 1],
    )


def _by_node(known: Credited) -> dict[str, list[Tensor | None]]:
    """Return known credit by node, call by call.

    Raises:
        InputError: for credit in steps.
    """
    found: dict[str, list[Tensor | None]] = {}
    for call, credit in zip(known.calls, known.assigned.calls, strict=True):
        if isinstance(credit, StepCredit):
            raise InputError("credit in steps has no correction by positions: use a whole trial's")
        found.setdefault(call.node.name, []).append(credit)
    return found


def _check_parameters(survey: Survey, reached: Mapping[str, Tensor]) -> None:
    left = [name for name in survey.parameters if name not in reached]
    if left:
        raise SystemRefused(
            f"{', '.join(map(repr, left))}: belongs to no node, and noise at the nodes "
            "says nothing about it: freeze it with requires_grad_(False), or use another rule"
        )
