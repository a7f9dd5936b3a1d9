"""How the nodes of a system respond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.record import NodeRecord, Record
from noisynets.core.types import Node
from noisynets.diagnose.listen import Batches, Listener
from noisynets.diagnose.statistics import (
    Ridge,
    explained,
    repeated,
)
from noisynets.rules.credit.delivery import activity, graph_of, response, result
from noisynets.rules.credit.mirror import Maps
from noisynets.rules.credit.products import forward, has_mirror, shown
from noisynets.run.session import Session

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
    rule: Any = getattr(session.estimator, "rule", None)
    while hasattr(rule, "inner"):
        rule = rule.inner
    return getattr(rule, "maps", None)


def innovation(call: NodeRecord, maps: dict[str, Tensor]) -> Tensor:
    """ε of a call, (K, B, *out): ξ where it is injected, else δa − M δx with a fitted map."""
    if call.xi is not None:
        return call.xi
    known = maps.get(call.node.name)
    if call.shift is None or known is None:
        return call.delta
    x = call.shift.flatten(0, 1)
    return call.delta - forward(call.node.product, known.to(x), x).view_as(call.delta)


def rows(call: NodeRecord, start: int) -> tuple[Tensor, Tensor] | None:
    """Rows of the node's product: differences of inputs (N, n_in), and what became of them.

    None for a node without a map, or one whose inputs do not differ.
    """
    layer = call.node.product
    if call.shift is None or not has_mirror(layer) or not bool(call.shift.any()):
        return None
    made = call.delta if call.xi is None else call.delta - call.xi
    inputs, outputs = call.shift.flatten(0, 1), made.flatten(0, 1)
    if not isinstance(layer, nn.Linear):
        inputs, outputs = inputs[:PICTURES], outputs[:PICTURES]
    assert isinstance(layer.weight, Tensor)
    positions = outputs[0].numel() // len(layer.weight)
    return shown(layer, inputs, outputs, len(inputs) * positions, start)


def fit(listener: Listener, batches: Batches) -> dict[str, Tensor]:
    """Solve for the map of every node that has one, by least squares on many pairs."""
    found: dict[str, Ridge] = {}
    for turn in range(MOST_FITS):
        record = listener(*batches.draw(ROWS))
        if record is None:
            return {}
        short = False
        for call in record.calls:
            r = rows(call, turn)
            if r is None:
                continue
            ridge = found.setdefault(call.node.name, Ridge())
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
        record = listener(*batches.draw(ROWS))
        if record is None:
            return {}
        for index, call in enumerate(record.calls):
            name = call.node.name
            entry = _scales(call, innovation(call, maps))
            r = rows(call, turn)
            if r is not None and name in maps:
                x, a = r
                entry["ridge"] = explained(a, x.double() @ maps[name].T)
                known = learnt.get(call.node) if learnt else None
                if known is not None and known.map is not None:
                    entry["learnt"] = explained(a, x.double() @ known.map.double().T)
            sums.setdefault(name, []).append(entry)
            units.setdefault(name, []).append(_reliability(record, index))
    return {
        name: Response(
            **{key: mean([entry.get(key) for entry in entries]) for key in _KEYS},
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


def _scales(call: NodeRecord, epsilon: Tensor) -> dict[str, float | None]:
    assert call.a is not None, "a listener's reports carry states"
    spread = float(call.a.double().std(0).square().mean().sqrt())
    noisy_passes = 1 if call.xi is not None else 2  # of the two, in a difference
    sigma = (float(epsilon.double().square().mean()) / noisy_passes) ** 0.5
    return {
        "sigma": sigma * call.draws**0.5,
        "relative_sigma": sigma / spread if spread > 1e-12 else None,
    }


def _reliability(record: Record, index: int) -> Tensor:
    """`repeated` of what the units behind a call hand on; of its activity, where none are."""
    call, graph = record.calls[index], graph_of(record)
    unit = graph.behind.get(index)
    if unit is None or unit in graph.unmeasured:
        first, change = activity(record, index), call.delta
    else:
        first, change = result(record, unit), response(record, unit)
    return repeated(_unit_first(first, call.node), _unit_first(first + change, call.node, 1))


def _unit_first(y: Tensor, node: Node, more: int = 0) -> Tensor:
    """Bring the units to where `repeated` wants them: behind the samples."""
    linear = isinstance(node.product, nn.Linear)
    return y.movedim(-1, 1 + more) if linear and y.dim() > 2 + more else y


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what was measured; None where nothing was."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
