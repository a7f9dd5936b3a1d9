"""Asking a box, before anything is trained on it, whether it keeps the contract and can learn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from noisynets.systems.blackbox.contract import Array, Box, Reading, Weights, problems

SHARED = 5.0
"""A mean over rows or nodes that scatters so many times more than a mean of independent noise."""
SATURATED = 0.2
"""Share of activities at an end of their range, above which little is left to be learnt."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        grade: 'ok', 'note' (can be trained, but worse) or 'failed' (cannot).
        what: was found, in one line.
    """

    grade: Literal["ok", "note", "failed"]
    what: str


def examine(box: Box, rows: int = 200, seed: int = 0) -> Iterator[Finding]:
    """Look at a box's layers, readings, weights, noise, repeatability and range, in turn.

    Args:
        box: any.
        rows: of random inputs from 0 to 1, in every trial.
        seed: of the inputs and the weights, which are He-normal.

    Raises:
        BoxFailed: where the box cannot go on.

    >>> from noisynets.systems.blackbox import NumpyChip
    >>> {finding.grade for finding in examine(NumpyChip((20, 10, 3)))}
    {'ok'}
    """
    rng = np.random.default_rng(seed)
    broken = _chained(box)
    if broken:
        yield Finding("failed", broken)
        return
    widths = "-".join(map(str, (box.layers[0].inputs, *(m for _, m in box.layers))))
    yield Finding("ok", f"layers {widths}")
    x = rng.random((rows, box.layers[0].inputs), dtype=np.float32)
    weights = [_he(n, m, rng) for n, m in box.layers]
    start = time.perf_counter()
    first = box.run(weights, x, 0)
    seconds = time.perf_counter() - start
    breaches = problems(box.layers, rows, first)
    if breaches:
        yield from (Finding("failed", breach) for breach in breaches)
        return
    yield Finding("ok", f"a reading of {rows} rows has its shapes, in {1000 * seconds:.0f} ms")
    second, again = box.run(weights, x, 1), box.run(weights, x, 1)
    yield from _entering(x, first)
    for i in range(len(box.layers)):
        yield from _noise(i, first, second)
        yield from _range(i, first)
    for i in range(len(box.layers)):
        other = [*weights]
        other[i] = _he(*box.layers[i], rng)
        yield from _obeys(i, box.run(other, x, 2), first, second)
    yield _repeats(second, again)


def _chained(box: Box) -> str:
    if not box.layers:
        return "it has no layers"
    for i, (lower, upper) in enumerate(zip(box.layers, box.layers[1:], strict=False)):
        if lower.outputs != upper.inputs:
            return f"layer {i} has {lower.outputs} outputs, and layer {i + 1} {upper.inputs} inputs"
    return ""


def _he(n: int, m: int, rng: np.random.Generator) -> Weights:
    weight = rng.standard_normal((m, n), dtype=np.float32) * np.float32((2 / n) ** 0.5)
    return Weights(weight, np.zeros(m, np.float32))


def _entering(x: Array, reading: Reading) -> Iterator[Finding]:
    seen = reading.layers[0].inputs
    if np.allclose(seen, x, atol=1e-6):
        yield Finding("ok", "layer 0 sees the inputs as they are given")
        return
    like = float(np.corrcoef(x.ravel(), np.asarray(seen).ravel())[0, 1]) if seen.std() else 0.0
    grade: Literal["note", "failed"] = "note" if like > 0.3 else "failed"
    yield Finding(grade, f"layer 0 sees inputs whose correlation with those given is {like:.2f}")


def _noise(i: int, first: Reading, second: Reading) -> Iterator[Finding]:
    """The same inputs and weights twice: what differs is noise, and should be each node's own."""
    a, b = (np.asarray(r.layers[i].activities, np.float64) for r in (first, second))
    delta = (b - a) / 2**0.5
    sigma, spread = float(delta.std()), float(a.std())
    if not sigma:
        lacks = "two trials gave the same activities: without noise there is nothing to learn from"
        yield Finding("failed", f"layer {i}: {lacks}")
        return
    relative = f", {sigma / spread:.2g} of their spread" if spread else ""
    yield Finding("ok", f"layer {i}: noise {sigma:.3g} in the activities{relative}")
    for axis, what in ((0, "rows"), (1, "nodes")):
        n = delta.shape[axis]
        if n < 2:
            continue
        shared = np.square(delta.mean(axis)).mean() * n / np.square(delta).mean()
        if shared > SHARED and (axis == 0 or i == 0):  # above, nodes share what comes from below
            yield Finding(
                "failed" if axis == 0 else "note",
                f"layer {i}: noise is the same in many {what}: their mean scatters {shared:.0f} "
                "times more than that of independent noise",
            )


def _range(i: int, reading: Reading) -> Iterator[Finding]:
    a = np.asarray(reading.layers[i].activities)
    at_end = float(((a == a.max()) | (a == a.min())).mean())
    if at_end > SATURATED:
        yield Finding("note", f"layer {i}: {at_end:.0%} of the activities at an end of their range")


def _obeys(i: int, other: Reading, first: Reading, second: Reading) -> Iterator[Finding]:
    """Other weights must change the layer's activities by more than noise does."""
    a, b, c = (np.asarray(r.layers[i].activities, np.float64) for r in (first, second, other))
    change, noise = np.square(c - a).mean(), np.square(b - a).mean()
    if change < 1.5 * noise:
        yield Finding("failed", f"layer {i}: other weights change no more than noise does")


def _repeats(second: Reading, again: Reading) -> Finding:
    same = all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(second.layers, again.layers, strict=True)
        for part in ("inputs", "activities")
    )
    if same:
        return Finding("ok", "a trial of the same number is the same: restarts change nothing")
    return Finding("note", "a trial of the same number has other noise: so has a restarted run")


def failed(findings: Sequence[Finding]) -> bool:
    """Whether something stands in the way of training."""
    return any(finding.grade == "failed" for finding in findings)
