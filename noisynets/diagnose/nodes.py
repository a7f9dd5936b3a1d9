"""What the nodes of a system measure: how it responds, and what its rule makes of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from noisynets.diagnose.gradients import of_weights, true_gradients
from noisynets.diagnose.listen import Batches, Listener
from noisynets.diagnose.statistics import (
    Ridge,
    cosine,
    explained,
    repeated,
    signal_to_noise,
)
from noisynets.estimate import NodePerturbation
from noisynets.feedback import Corrected, InTime, Mapped, Pair, Traced
from noisynets.feedback.learnt import Maps, geometry
from noisynets.feedback.mirror import Mirror, forward, has_mirror, shown
from noisynets.probe import find_nodes
from noisynets.session import Session
from noisynets.types import Node, Report

ROWS, RESAMPLES = 200, 4
"""Samples and noisy passes of a batch that is listened to."""
ROWS_PER_INPUT = 40
"""Pairs of rows per input of a layer on which least squares are solved: its R² is then lower than
the best by 1/40 of what noise leaves unexplained."""
MOST_FITS = 16
TESTS = 3
PICTURES = 64
"""Of a batch whose patches are looked at, for a convolution: there are many in each."""


@dataclass
class Response:
    """How one node responds, from batches that were listened to.

    Attributes:
        sigma: as in `NodeMeasures`, and so the others.
    """

    sigma: float | None = None
    relative_sigma: float | None = None
    learnt: float | None = None
    ridge: float | None = None
    dead: float | None = None


def learnt_maps(session: Session) -> Maps | None:
    """Return what the run's feedback has learnt of its nodes; None where it learns nothing."""
    rule = getattr(session.estimator, "rule", None)
    while isinstance(rule, InTime | Corrected):
        rule = rule.feedback
    return rule.maps if isinstance(rule, Mapped) else None


def innovation(report: Report, maps: dict[str, Tensor]) -> Tensor:
    """ε of a call, (K, B, *out): ξ where it is injected, else δa − M δx with a fitted map."""
    if report.xi is not None:
        return report.xi
    known = maps.get(report.node.name)
    if report.shift is None or known is None:
        return report.delta
    x = report.shift.flatten(0, 1)
    return report.delta - forward(geometry(report.node), known.to(x), x).view_as(report.delta)


def rows(report: Report, start: int) -> tuple[Tensor, Tensor] | None:
    """Rows of the node's product: differences of inputs (N, n_in), and what became of them.

    None for a node without a map, or one whose inputs do not differ.
    """
    layer = geometry(report.node)
    if report.shift is None or not has_mirror(layer) or not bool(report.shift.any()):
        return None
    made = report.delta if report.xi is None else report.delta - report.xi
    inputs, outputs = report.shift.flatten(0, 1), made.flatten(0, 1)
    if not isinstance(layer, nn.Linear):
        inputs, outputs = inputs[:PICTURES], outputs[:PICTURES]
    assert isinstance(layer.weight, Tensor)
    positions = outputs[0].numel() // len(layer.weight)
    return shown(layer, inputs, outputs, len(inputs) * positions, start)


def fit(listener: Listener, batches: Batches) -> dict[str, Tensor]:
    """Solve for the map of every node that has one, by least squares on many pairs."""
    found: dict[str, Ridge] = {}
    for turn in range(MOST_FITS):
        pair = listener(*batches.draw(ROWS))
        if pair is None:
            return {}
        short = False
        for report in pair.reports:
            r = rows(report, turn)
            if r is None:
                continue
            ridge = found.setdefault(report.node.name, Ridge())
            ridge.add_(*r)
            short |= ridge.rows < ROWS_PER_INPUT * r[0].shape[1]
        if not short:
            break
    return {name: ridge.map for name, ridge in found.items()}


def responses(
    session: Session, listener: Listener, batches: Batches, maps: dict[str, Tensor]
) -> dict[str, Response]:
    """Measure every node's response on fresh batches; empty where the system cannot be heard."""
    learnt = learnt_maps(session)
    sums: dict[str, list[dict[str, float | None]]] = {}
    units: dict[str, list[Tensor]] = {}
    for turn in range(TESTS):
        pair = listener(*batches.draw(ROWS))
        if pair is None:
            return {}
        for call, report in enumerate(pair.reports):
            name = report.node.name
            entry = _scales(report, innovation(report, maps))
            r = rows(report, turn)
            if r is not None and name in maps:
                x, a = r
                entry["ridge"] = explained(a, x.double() @ maps[name].T)
                known = learnt[report.node] if learnt and report.node in learnt else None
                if isinstance(known, Mirror) and known.map is not None:
                    entry["learnt"] = explained(a, x.double() @ known.map.double().T)
            sums.setdefault(name, []).append(entry)
            units.setdefault(name, []).append(_reliability(pair, call))
    return {
        name: Response(
            **{key: _mean([entry.get(key) for entry in entries]) for key in _KEYS},
            dead=dead(torch.stack(units[name])),
        )
        for name, entries in sums.items()
    }


_KEYS = ("sigma", "relative_sigma", "learnt", "ridge")
SILENT = 0.02
"""Mean over units of the correlation over samples of their outputs in two passes, below which a
layer says nothing of the samples. Chance makes it 0.007 for ten units, less for more."""


def dead(correlations: Tensor) -> float:
    """Share of units that never change; all of them if the others change by noise alone.

    Args:
        correlations: of `repeated`, of some batches, (batches, units).

    >>> dead(torch.tensor([[0.5, torch.nan], [0.6, torch.nan]]))
    0.5
    >>> dead(torch.tensor([[0.001, torch.nan], [-0.002, torch.nan]]))
    1.0
    """
    still = correlations.isnan().all(0)
    says = correlations[:, ~still].nanmean()  # NaN if all are still
    return float(still.double().mean()) if bool(says >= SILENT) else 1.0


def _scales(report: Report, epsilon: Tensor) -> dict[str, float | None]:
    assert report.a is not None, "a listener's reports carry states"
    spread = float(report.a.double().std(0).square().mean().sqrt())
    noisy_passes = 1 if report.xi is not None else 2  # of the two, in a difference
    sigma = (float(epsilon.double().square().mean()) / noisy_passes) ** 0.5
    return {
        "sigma": sigma * report.draws**0.5,
        "relative_sigma": sigma / spread if spread > 1e-12 else None,
    }


def _reliability(pair: Pair, call: int) -> Tensor:
    """`repeated` of what the units behind a call hand on; of its activity, where none are."""
    report = pair.reports[call]
    unit = pair.behind.get(call)
    if unit is None or unit in pair.blind:
        first, change = pair.activity(call), report.delta
    else:
        first, change = pair.result(unit), pair.response(unit)
    return repeated(_unit_first(first, report.node), _unit_first(first + change, report.node, 1))


def _unit_first(y: Tensor, node: Node, more: int = 0) -> Tensor:
    """Bring the units to where `repeated` wants them: behind the samples."""
    linear = isinstance(geometry(node), nn.Linear)
    return y.movedim(-1, 1 + more) if linear and y.dim() > 2 + more else y


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


# --- what the rule makes of it ----------------------------------------------------------------

REPEATS = 8
"""Estimates from one batch with fresh noise."""
LEAST_BATCHES, LEAST_ROWS, MOST_BATCHES = 4, 200, 32
PASSES = 16
"""Noisy passes with which the credit of a batch is compared."""


@dataclass
class Credit:
    """What a rule makes of pairs.

    Attributes:
        nodes: snr, cosine, share, share_error, slope and slope_error, by node, as in
            `NodeMeasures`.
        loss: as in `Measures`, and so the others.
    """

    nodes: dict[str, dict[str, float | None]]
    loss: float = math.nan
    dloss: float | None = None
    explained: float | None = None
    explained_error: float | None = None


@dataclass
class _Products:
    """Sums over samples of δL, and of what credit predicts of it, per node (N,)."""

    dloss: list[Tensor] = field(default_factory=list)
    predicted: dict[str, list[Tensor]] = field(default_factory=dict)


def credit(
    session: Session, batches: Batches, maps: dict[str, Tensor], sends: bool, noisy: bool
) -> Credit:
    """Repeat the run's estimator on some batches, and compare its credit with other passes.

    Args:
        session: of the run; what its feedback has learnt stays the same in all repeats.
        batches: drawn from, of the run's batch size.
        maps: of nodes, by which ε is told from what came from upstream.
        sends: whether credit is made of the error at the output, and not of δL.
        noisy: whether the system has noise of its own.
    """
    size = session.config.batch_size
    nodes = find_nodes(session.system)
    listener = Listener(session, PASSES, seed=3)
    kept: dict[str, list[dict[str, float | None]]] = {node.name: [] for node in nodes}
    products, total_loss = _Products(), []
    count = min(max(LEAST_BATCHES, math.ceil(LEAST_ROWS / size)), MOST_BATCHES)
    for _ in range(count):
        x, y = batches.draw(size)
        seen = session.encode(x, session.encoding)
        measure = session.task.measure.loss
        true = true_gradients(session.system, nodes, measure, seen, y, REPEATS if noisy else 1)
        draws, credits, loss = _repeats(session, nodes, seen, y)
        total_loss.append(loss)
        for node in nodes:
            grads, gradient = draws[node.name], true[node.name]
            entry: dict[str, float | None] = {}
            if grads:
                stacked = torch.stack(grads)
                entry["snr"] = signal_to_noise(stacked)
                entry["cosine"] = None if gradient is None else cosine(stacked, gradient)
            kept[node.name].append(entry)
        pair = listener(x, y)
        if credits is not None and pair is not None:
            _compare(pair, credits, maps, products)
    found = Credit({name: _means(entries) for name, entries in kept.items()}, _loss(total_loss))
    if products.dloss:
        _explain(products, sends, found)
    return found


def _repeats(
    session: Session, nodes: Sequence[Node], x: Tensor, y: Tensor
) -> tuple[dict[str, list[Tensor]], dict[str, list[Tensor]] | None, float]:
    """Gradients of every node in every repeat, the mean credit of each of its calls, and the loss.

    No credits where the estimator gives none to nodes.
    """
    estimator = session.estimator
    learnt = estimator.state()
    grads: dict[str, list[Tensor]] = {node.name: [] for node in nodes}
    sums: dict[str, list[Tensor]] = {}
    gives = isinstance(estimator, NodePerturbation)
    loss = 0.0
    for _ in range(REPEATS):
        session.optimiser.zero_grad()
        if "stream" in learnt:  # fresh noise, but nothing new is learnt
            learnt = learnt | {"stream": estimator.state()["stream"]}
        estimator.restore(learnt)
        if isinstance(estimator, NodePerturbation):
            made = estimator.credit(x, y)
            given: dict[str, list[Tensor]] = {}
            credits = list(made.credits)
            type(made)(made.estimate, made.reports, credits).accumulate_()
            for report, c in zip(made.reports, credits, strict=True):
                if c is not None:
                    c = c.credit.sum(1) if isinstance(c, Traced) else c
                    given.setdefault(report.node.name, []).append(c * len(y) / REPEATS)
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
    pair: Pair, credits: dict[str, list[Tensor]], maps: dict[str, Tensor], products: _Products
) -> None:
    """Add what credit predicts of the loss differences of other passes."""
    batch = pair.dloss.shape[1]
    calls: dict[str, list[Tensor]] = {}
    for report in pair.reports:
        calls.setdefault(report.node.name, []).append(innovation(report, maps))
    products.dloss.append((pair.dloss * batch).flatten().double())
    for name, epsilons in calls.items():
        given = credits.get(name)
        if given is None:
            continue
        if len(given) != len(epsilons):  # credit in steps, where noise is heard on average
            given = [torch.stack(given).sum(0)]
        predicted = sum(
            (e * c.view_as(e[0])).flatten(2).sum(2) for e, c in zip(epsilons, given, strict=True)
        )
        assert isinstance(predicted, Tensor)
        products.predicted.setdefault(name, []).append(predicted.flatten().double())


def _explain(products: _Products, sends: bool, found: Credit) -> None:
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
    keys = {key for entry in entries for key in entry}
    return {key: _mean([entry.get(key) for entry in entries]) for key in keys}


def _loss(losses: Sequence[float]) -> float:
    return sum(losses) / len(losses)
