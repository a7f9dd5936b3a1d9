"""Quality of a rule's gradients and credit: their noise, and how well they predict δL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from noisynets.core.nodes import find_nodes
from noisynets.core.record import Record
from noisynets.core.types import Node
from noisynets.diagnose.gradients import of_weights, true_gradients
from noisynets.diagnose.nodes import innovation, mean
from noisynets.diagnose.pairs import Batches, PairSource
from noisynets.diagnose.statistics import (
    cosine,
    signal_to_noise,
)
from noisynets.estimators.node_perturbation import NodePerturbation
from noisynets.rules import StepCredit
from noisynets.run.session import Session

REPEATS = 8
"""Estimates from each batch, with new noise for each."""
LEAST_BATCHES, LEAST_ROWS, MOST_BATCHES = 4, 200, 32
"""Smallest number of batches and of samples, and largest number of batches."""
PASSES = 16
"""Independent noisy passes whose loss differences are compared with a batch's credit."""


@dataclass
class Credit:
    """Measured quality of gradients and credit.

    Attributes:
        nodes: snr, cosine, share, share_error, slope and slope_error by node, as in
            `NodeMeasures`. The other attributes are those of the same name in `Measures`.
    """

    nodes: dict[str, dict[str, float | None]]
    loss: float = math.nan
    dloss: float | None = None
    explained: float | None = None
    explained_error: float | None = None


@dataclass
class _Products:
    """δL of samples and passes, (N,), and the predictions credit·ε of each node, (N,), in parts."""

    dloss: list[Tensor] = field(default_factory=list)
    predicted: dict[str, list[Tensor]] = field(default_factory=dict)


def credit(
    session: Session, batches: Batches, maps: dict[str, Tensor], sends: bool, noisy: bool
) -> Credit:
    """Repeat the run's estimator on some batches and compare its credit with independent passes.

    Args:
        session: session of the run; its feedback does not learn in the repeats.
        batches: source of batches of the run's size.
        maps: fitted maps by node, with which ε is separated from δa.
        sends: True if credit is computed from the error at the output, not from δL.
        noisy: True if the system has noise of its own.
    """
    size = session.config.batch_size
    nodes = find_nodes(session.system)
    source = PairSource(session, PASSES, seed=3)
    kept: dict[str, list[dict[str, float | None]]] = {node.name: [] for node in nodes}
    products, total_loss = _Products(), []
    count = min(max(LEAST_BATCHES, math.ceil(LEAST_ROWS / size)), MOST_BATCHES)
    for _ in range(count):
        x, y = batches.draw(size)
        encoded = session.encode(x, session.encoding)
        measure = session.task.measure.loss
        true = true_gradients(session.system, nodes, measure, encoded, y, REPEATS if noisy else 1)
        draws, credits, loss = _repeats(session, nodes, encoded, y)
        total_loss.append(loss)
        for node in nodes:
            grads, gradient = draws[node.name], true[node.name]
            entry: dict[str, float | None] = {}
            if grads:
                stacked = torch.stack(grads)
                entry["snr"] = signal_to_noise(stacked)
                entry["cosine"] = None if gradient is None else cosine(stacked, gradient)
            kept[node.name].append(entry)
        record = source(x, y)
        if credits is not None and record is not None:
            _compare(record, credits, maps, products)
    means = {name: _means(entries) for name, entries in kept.items()}
    found = Credit(means, sum(total_loss) / len(total_loss))
    if products.dloss:
        _explain(products, sends, found)
    return found


def _repeats(
    session: Session, nodes: Sequence[Node], x: Tensor, y: Tensor
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]] | None, float]:
    """Repeat the estimate of a batch with new noise.

    Returns:
        Gradients of every node in every repeat; the mean credit of each of its calls, or None if
        the estimator computes no credit of nodes; and the mean loss.
    """
    estimator = session.estimator
    learnt = estimator.state()
    grads: dict[str, list[Tensor]] = {node.name: [] for node in nodes}
    sums: dict[str, list[Tensor]] = {}
    gives = isinstance(estimator, NodePerturbation)
    loss = 0.0
    for _ in range(REPEATS):
        session.optimiser.zero_grad()
        if "stream" in learnt:  # new noise, but the learnt feedback of the first repeat
            learnt = learnt | {"stream": estimator.state()["stream"]}
        estimator.restore(learnt)
        if isinstance(estimator, NodePerturbation):
            made = estimator.credit(x, y)
            given: dict[str, list[Tensor]] = {}
            credits = made.assigned.calls = list(made.assigned.calls)
            made.accumulate_()
            for call, c in zip(made.calls, credits, strict=True):
                if c is not None:
                    c = c.credit.sum(1) if isinstance(c, StepCredit) else c
                    given.setdefault(call.node.name, []).append(c * len(y) / REPEATS)
            for name, calls in given.items():
                before = sums.get(name)
                sums[name] = (
                    calls if before is None else [a + b for a, b in zip(before, calls, strict=True)]
                )
            estimate = made.estimate
        else:
            estimate = estimator(x, y)
        loss += float(estimate.loss.mean()) / REPEATS
        for node in nodes:
            g = of_weights(node)
            if g is not None:
                grads[node.name].append(g.clone())
    session.optimiser.zero_grad()
    return grads, sums if gives else None, loss


def _compare(
    record: Record, credits: dict[str, list[Tensor]], maps: dict[str, Tensor], products: _Products
) -> None:
    """Append the loss differences of other passes, and the predictions of the credit for them."""
    batch = record.dloss.shape[1]
    calls: dict[str, list[Tensor]] = {}
    for call in record.calls:
        calls.setdefault(call.node.name, []).append(innovation(call, maps))
    products.dloss.append((record.dloss * batch).flatten().double())
    for name, epsilons in calls.items():
        given = credits.get(name)
        if given is None:
            continue
        if len(given) != len(epsilons):  # credit for each step, noise averaged over the trial
            given = [torch.stack(given).sum(0)]
        predicted = sum(
            (e * c.view_as(e[0])).flatten(2).sum(2) for e, c in zip(epsilons, given, strict=True)
        )
        assert isinstance(predicted, Tensor)
        products.predicted.setdefault(name, []).append(predicted.flatten().double())


def _explain(products: _Products, sends: bool, found: Credit) -> None:
    """Fill in how much of δL the credit explains."""
    dloss = torch.cat(products.dloss)
    predicted = {name: torch.cat(parts) for name, parts in products.predicted.items()}
    power = float(dloss.square().mean())
    found.dloss = power**0.5
    if not power or not predicted:
        return
    whole = torch.stack(list(predicted.values())).sum(0)
    n = len(dloss) ** 0.5
    found.explained = float((dloss * whole).mean()) / power
    found.explained_error = float((dloss * whole).std()) / power / n
    for name, p in predicted.items():
        entry = found.nodes[name]
        entry["share"] = float((dloss * p).mean()) / power
        entry["share_error"] = float((dloss * p).std()) / power / n
        square = float(p.square().mean())
        if sends and square:
            rest = dloss - (whole - p)
            slope = entry["slope"] = float((rest * p).mean()) / square
            left = rest - slope * p
            entry["slope_error"] = float((left * p).std()) / square / n


def _means(entries: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Average every measure over batches."""
    keys = {key for entry in entries for key in entry}
    return {key: mean([entry.get(key) for entry in entries]) for key in keys}
