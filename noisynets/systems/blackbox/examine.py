"""Checks of a box before training: the contract, its noise, and the effect of its weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from noisynets.core.errors import BoxFailed
from noisynets.core.seeds import salted
from noisynets.systems.blackbox.contract import Array, Box, Reading, Weights
from noisynets.systems.blackbox.readings import checked_layers, checked_rows, run

SHARED = 5.0
"""Noise is shared if its mean's variance exceeds that of independent noise by this factor."""
CHANCE = 1e-4
"""And if independent noise exceeds it with less than this probability: there may be few means."""
SATURATED = 0.2
"""Largest share of activities at an end of their range without a note."""


@dataclass(frozen=True)
class Finding:
    """Result of one check.

    Attributes:
        grade: 'ok', 'note' (training works, but less well) or 'failed' (training cannot work).
        message: one line.
    """

    grade: Literal["ok", "note", "failed"]
    message: str


def examine(box: Box, rows: int = 200, seed: int = 0) -> Iterator[Finding]:
    """Check a box's layers, readings, inputs, noise, range, weights and repeatability.

    Args:
        box: any box.
        rows: number of random inputs between 0 and 1 in every trial.
        seed: of the inputs and the weights, which are He-normal.

    Yields:
        One finding per check; the last one, if the box fails or breaks the contract.

    >>> from noisynets.systems.blackbox import NumpyChip
    >>> {finding.grade for finding in examine(NumpyChip((20, 10, 3)))}
    {'ok'}
    """
    try:
        yield from _examine(box, rows, np.random.default_rng(salted(seed, "check of a box")))
    except BoxFailed as error:
        yield Finding("failed", str(error))


def _examine(box: Box, rows: int, rng: np.random.Generator) -> Iterator[Finding]:
    layers, most = checked_layers(box.layers), checked_rows(getattr(box, "rows", None))
    widths = "-".join(map(str, (layers[0].inputs, *(m for _, m in layers))))
    yield Finding("ok", f"layers {widths}" + (f", {most} rows at a time" if most else ""))
    x = rng.random((rows, layers[0].inputs), dtype=np.float32)
    weights = [_he(n, m, rng) for n, m in layers]
    start = time.perf_counter()
    first, trials = run(box, weights, x, 0)
    seconds = time.perf_counter() - start
    yield Finding("ok", f"a reading of {rows} rows has the right shapes ({1000 * seconds:.0f} ms)")

    def measured(programmed: Sequence[Weights], n: int) -> Reading:
        return run(box, programmed, x, n * trials)[0]

    second, again = measured(weights, 1), measured(weights, 1)
    yield from _check_inputs(x, first)
    for i in range(len(layers)):
        yield from _check_noise(i, first, second)
        yield from _check_range(i, first)
    for i in range(len(layers)):
        other = [*weights]
        other[i] = _he(*layers[i], rng)
        yield from _check_weights(i, measured(other, 2), first, second)
    yield _check_repeatability(second, again)


def _he(n: int, m: int, rng: np.random.Generator) -> Weights:
    weight = rng.standard_normal((m, n), dtype=np.float32) * np.float32((2 / n) ** 0.5)
    return Weights(weight, np.zeros(m, np.float32))


def _check_inputs(x: Array, reading: Reading) -> Iterator[Finding]:
    measured = reading.layers[0].inputs
    if np.allclose(measured, x, atol=1e-6):
        yield Finding("ok", "layer 0 receives the inputs that were sent")
        return
    correlation = 0.0
    if measured.std():
        correlation = float(np.corrcoef(x.ravel(), np.asarray(measured).ravel())[0, 1])
    grade: Literal["note", "failed"] = "note" if correlation > 0.3 else "failed"
    yield Finding(
        grade,
        f"layer 0 receives inputs whose correlation with those sent is {correlation:.2f}",
    )


def _check_noise(i: int, first: Reading, second: Reading) -> Iterator[Finding]:
    """Two trials with equal inputs and weights must differ, by noise independent between rows."""
    from scipy.stats import chi2

    a, b = (np.asarray(r.layers[i].activities, np.float64) for r in (first, second))
    delta = (b - a) / 2**0.5
    sigma, spread = float(delta.std()), float(a.std())
    if not sigma:
        equal = "two trials gave equal activities, and without noise no rule can learn"
        yield Finding("failed", f"layer {i}: {equal}")
        return
    relative = f", {sigma / spread:.2g} of their standard deviation" if spread else ""
    yield Finding("ok", f"layer {i}: noise {sigma:.3g} in the activities{relative}")
    for axis, dimension in ((0, "rows"), (1, "nodes")):
        n = delta.shape[axis]
        if n < 2:
            continue
        shared = np.square(delta.mean(axis)).mean() * n / np.square(delta).mean()
        means = delta.shape[1 - axis]
        limit = max(SHARED, float(chi2.isf(CHANCE, means)) / means)
        if shared > limit and (axis == 0 or i == 0):  # later layers' nodes share upstream noise
            yield Finding(
                "failed" if axis == 0 else "note",
                f"layer {i}: noise is shared between {dimension}: the variance of their mean is "
                f"{shared:.0f} times that of independent noise",
            )


def _check_range(i: int, reading: Reading) -> Iterator[Finding]:
    a = np.asarray(reading.layers[i].activities)
    at_end = float(((a == a.max()) | (a == a.min())).mean())
    if at_end > SATURATED:
        yield Finding("note", f"layer {i}: {at_end:.0%} of the activities are saturated")


def _check_weights(i: int, other: Reading, first: Reading, second: Reading) -> Iterator[Finding]:
    """New weights must change the layer's activities by more than the noise."""
    a, b, c = (np.asarray(r.layers[i].activities, np.float64) for r in (first, second, other))
    change, noise = np.square(c - a).mean(), np.square(b - a).mean()
    if change < 1.5 * noise:
        yield Finding(
            "failed",
            f"layer {i}: new weights change the activities no more than noise does",
        )


def _check_repeatability(second: Reading, again: Reading) -> Finding:
    same = all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(second.layers, again.layers, strict=True)
        for part in ("inputs", "activities")
    )
    if same:
        return Finding("ok", "a repeated trial gives the same bits: resumed runs are reproducible")
    return Finding("note", "a repeated trial has new noise: resumed runs are not reproducible")


def failed(findings: Sequence[Finding]) -> bool:
    """True if a check failed."""
    return any(finding.grade == "failed" for finding in findings)
