"""Responses of a system's nodes to noise and to samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.record import NodeRecord, Record
from noisynets.core.types import Node
from noisynets.diagnose.pairs import Batches, PairSource
from noisynets.diagnose.statistics import (
    Ridge,
    explained,
    repeated,
)
from noisynets.rules.credit.delivery import activity, graph_of, response, result
from noisynets.rules.credit.mirror import Maps
from noisynets.rules.credit.products import forward, has_product, shown
from noisynets.run.session import Session

ROWS, RESAMPLES = 200, 4
"""Samples and noisy passes of each recorded batch."""
ROWS_PER_INPUT = 40
"""Rows for least squares, per input of a layer. R² on other rows is then below its upper limit by
1/40 of the variance that noise leaves unexplained."""
MOST_FITS = 16
"""Largest number of batches for least squares."""
TESTS = 3
"""Number of batches on which responses are measured."""
IMAGES = 64
"""Samples of a batch whose patches are used for a convolution; each has many patches."""


@dataclass
class NodeResponse:
    """Measured response of one node.

    The attributes are those of the same name in `NodeMeasures`.
    """

    sigma: float | None = None
    relative_sigma: float | None = None
    learnt: float | None = None
    ridge: float | None = None
    dead: float | None = None


def learnt_maps(session: Session) -> Maps | None:
    """Return the maps that the run's feedback has learnt; None if it learns none."""
    rule: Any = getattr(session.estimator, "rule", None)
    while hasattr(rule, "inner"):
        rule = rule.inner
    return getattr(rule, "maps", None)


def innovation(call: NodeRecord, maps: dict[str, Tensor]) -> Tensor:
    """Return the noise ε of a call, (K, B, *out).

    It is ξ if noise is injected, otherwise δa − M δx with the fitted map M of the node.

    Args:
        call: its record.
        maps: fitted maps by node.
    """
    if call.xi is not None:
        return call.xi
    known = maps.get(call.node.name)
    if call.shift is None or known is None:
        return call.delta
    x = call.shift.flatten(0, 1)
    return call.delta - forward(call.node.product, known.to(x), x).view_as(call.delta)


def rows(call: NodeRecord, start: int) -> tuple[Tensor, Tensor] | None:
    """Return rows of a call's linear map: input differences and the resulting output differences.

    Args:
        call: its record.
        start: offset of the rows that are taken for a convolution.

    Returns:
        (N, n_in) and (N, n_out), or, with groups, (groups, N, n); None if the node has no such map,
        or its inputs do not differ.
    """
    layer = call.node.product
    if call.shift is None or not has_product(layer) or not bool(call.shift.any()):
        return None
    made = call.delta if call.xi is None else call.delta - call.xi
    inputs, outputs = call.shift.flatten(0, 1), made.flatten(0, 1)
    if not isinstance(layer, nn.Linear):
        inputs, outputs = inputs[:IMAGES], outputs[:IMAGES]
    units = outputs.shape[-1] if isinstance(layer, nn.Linear) else outputs.shape[1]
    positions = outputs[0].numel() // units
    return shown(layer, inputs, outputs, len(inputs) * positions, start)


def fit(source: PairSource, batches: Batches) -> dict[str, Tensor]:
    """Fit the map of every node that has one by least squares on many pairs.

    Args:
        source: makes the pairs.
        batches: batches over which they are made.

    Returns:
        Maps M by node; empty if the system does not support the recording of pairs.
    """
    found: dict[str, Ridge] = {}
    for turn in range(MOST_FITS):
        record = source(*batches.draw_rows(ROWS))
        if record is None:
            return {}
        short = False
        for call in record.calls:
            r = rows(call, turn)
            if r is None:
                continue
            ridge = found.setdefault(call.node.name, Ridge())
            ridge.add_(*r)
            short |= ridge.rows < ROWS_PER_INPUT * r[0].shape[-1]
        if not short:
            break
    return {name: ridge.map for name, ridge in found.items()}


def responses(
    session: Session, source: PairSource, batches: Batches, maps: dict[str, Tensor]
) -> dict[str, NodeResponse]:
    """Measure the response of every node on new batches.

    Args:
        session: session of the run.
        source: makes the pairs.
        batches: batches over which they are made.
        maps: fitted maps by node.

    Returns:
        Responses by node; empty if the system does not support the recording of pairs.
    """
    learnt = learnt_maps(session)
    sums: dict[str, list[dict[str, float | None]]] = {}
    units: dict[str, list[Tensor]] = {}
    for turn in range(TESTS):
        record = source(*batches.draw_rows(ROWS))
        if record is None:
            return {}
        for index, call in enumerate(record.calls):
            name = call.node.name
            entry = scales(call, innovation(call, maps))
            r = rows(call, turn)
            if r is not None and name in maps:
                x, a = r
                entry["ridge"] = explained(a, x.double() @ maps[name].mT)
                known = learnt.get(call.node) if learnt else None
                if known is not None and known.map is not None:
                    entry["learnt"] = explained(a, x.double() @ known.map.double().mT)
            sums.setdefault(name, []).append(entry)
            if not _alike(call):
                units.setdefault(name, []).append(_reliability(record, index))
    return {
        name: NodeResponse(
            **{key: mean([entry.get(key) for entry in entries]) for key in _KEYS},
            dead=dead(torch.stack(units[name])) if name in units else None,
        )
        for name, entries in sums.items()
    }


ROUNDED = 1e3
"""Rounding errors up to which activities are the same in all samples: means over a trial are where
every input has as many spikes in each sample."""

_KEYS = ("sigma", "relative_sigma", "learnt", "ridge")
SILENT = 0.02
"""Limit of the correlation between a unit's outputs in two passes, over samples and averaged over
units, below which a layer carries no information about the samples. By chance it is 0.007 for ten
units, and less for more."""


def dead(correlations: Tensor) -> float:
    """Return the fraction of units that never change; 1 if the others change by noise alone.

    Args:
        correlations: results of `repeated` for some batches, (batches, units).

    >>> dead(torch.tensor([[0.5, torch.nan], [0.6, torch.nan]]))
    0.5
    >>> dead(torch.tensor([[0.001, torch.nan], [-0.002, torch.nan]]))
    1.0
    """
    still = correlations.isnan().all(0)
    others = correlations[:, ~still].nanmean()  # NaN if there are none
    return float(still.double().mean()) if bool(others >= SILENT) else 1.0


def scales(call: NodeRecord, epsilon: Tensor) -> dict[str, float | None]:
    """Return the size of the noise at a node, absolute and relative to its activity's deviation.

    Args:
        call: of the node.
        epsilon: noise that entered there, in the noisy passes.
    """
    assert call.a is not None, "recorded pairs contain the activities"
    spread, size = (float(t.square().mean().sqrt()) for t in (call.a.double().std(0), call.a))
    rounding = ROUNDED * torch.finfo(call.a.dtype).eps * size
    noisy_passes = 1 if call.xi is not None else 2  # a difference of two noisy passes has both
    sigma = (float(epsilon.double().square().mean()) / noisy_passes) ** 0.5
    return {
        "sigma": sigma * call.draws**0.5,
        "relative_sigma": sigma / spread if spread > rounding else None,
    }


def _reliability(record: Record, index: int) -> Tensor:
    """Return `repeated` of the outputs of the units after a call, or of its activity if none."""
    call, graph = record.calls[index], graph_of(record)
    unit = graph.behind.get(index)
    if unit is None:
        first, change = activity(record, index), call.delta
    else:
        first, change = result(record, unit), response(record, unit)
    return repeated(_unit_first(first, call.node), _unit_first(first + change, call.node, 1))


def _alike(call: NodeRecord) -> bool:
    """Return True for a table that all samples read at the same places, as one of positions."""
    table = isinstance(call.node.product, nn.Embedding)
    return table and bool((call.x == call.x[:1]).all())


def _unit_first(y: Tensor, node: Node, more: int = 0) -> Tensor:
    """Move the axis of the units to where `repeated` has it, after that of the samples."""
    last = isinstance(node.product, nn.Linear | nn.Embedding)
    return y.movedim(-1, 1 + more) if last and y.dim() > 2 + more else y


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
