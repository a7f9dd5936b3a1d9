"""From measures to advice: which knob to turn, which way, and the number behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from noisynets.diagnose.ladder import Rung, best
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.estimators.methods import METHODS

ROUNDED = 0.05
"""Distortion at a σ below the best one, above which rounding or own noise is said to spoil δL. A
larger σ costs nothing there, so the limit is low."""
CURVED = 0.4
"""Distortion at a σ above the best one, above which curvature is said to spoil δL: a sixth of the
power of δL. Kinks alone make 0.3 of it in healthy networks, at any σ."""
DROWNED = 1.0
"""Injected σ over the spread of the activity, above which gains are measured where units seldom
work. At 1, mirrored credit still trains as well as ever on MNIST; at 3 it loses a point."""
WORSE = 2.0
"""By how much the distortion must exceed that at the best σ."""
SLOWER = 1.3
"""Loss at the learning rate over that at a third of it, above which the rate is too high. At
healthy rates a third is slower in short runs."""
FASTER = 0.6
"""Loss at three times the learning rate over that at the rate, below which it is too low."""
MIRRORED = 0.8
"""Share of what least squares explain that a learnt map should explain. Mirrors that have settled
explain 0.95 to 1."""
EXPLAINS = 0.05
"""R² of least squares below which noise hides a map, however long it is looked for."""
TRUSTED = 0.35
"""Slope of δL on what learned credit predicts, which is the share of signal in its power; 0.5 to
0.9 in healthy networks."""
FEW_ROWS = 32
"""Rows per update below which a regression that lags is blamed on the batch at once,"""
SETTLED = 1000
"""and steps after which it is, however large the batch: before, it may just not have learnt yet."""
MOST_DEAD = 0.5
"""Share of dead units above which a layer is said to be dead."""
SURE = 2.0
"""Standard errors that a measure must be away from its limit."""


@dataclass(frozen=True)
class Finding:
    """Something that stands out.

    Attributes:
        knob: option of the command line to turn, or layer: the layer itself.
        direction: 'raise', 'lower' or 'look at'.
        layer: path of the node; None: the whole system.
        number: what was measured.
        reason: one sentence with the number, and what to try.
    """

    knob: str
    direction: str
    layer: str | None
    number: float
    reason: str

    def __str__(self) -> str:
        where = f"layer {self.layer!r}: " if self.layer is not None else ""
        turn = f"{self.direction} {self.knob}" if self.knob != "layer" else "look at the layer"
        return f"{where}{turn}: {self.reason}"


def advise(m: Measures) -> list[Finding]:
    """Name what stands out: what to change first, and nothing that may only follow from it.

    A pure function of the measures. At a wrong σ no rate tells anything of the learning rate, a
    wrecked system nothing of its regressions, and nothing passes a dead layer.
    """
    for look in (_sigma, _rate, _dead, _regression):
        found = list(look(m))
        if found:
            return found
    return []


def _sigma(m: Measures) -> Iterator[Finding]:
    sigma = m.config.injected
    if not m.rungs or sigma is None:
        return
    now = min(m.rungs, key=lambda rung: abs(math.log(rung.sigma / sigma)))
    good = best(m.rungs)
    if not m.reads_dloss and now.sigma > good:
        yield from _drowned(m, sigma)
        return
    least = min(rung.distortion for rung in _around(m.rungs, good))
    if now.distortion <= WORSE * least:
        return
    spoilt = f"{now.distortion:.2g} of the slope's part of δL"
    if now.sigma < good and now.distortion > ROUNDED:
        yield Finding(
            "--sigma",
            "raise",
            None,
            now.distortion,
            f"at {sigma:g} rounding or the system's own noise makes {spoilt}, at {good:g} "
            f"{least:.2g}: try --sigma {good:g}",
        )
    elif now.sigma > good and now.distortion > CURVED:
        yield Finding(
            "--sigma",
            "lower",
            None,
            now.distortion,
            f"at {sigma:g} the loss is curved along the noise, which makes {spoilt}, at {good:g} "
            f"{least:.2g}: try --sigma {good:g}",
        )


def _drowned(m: Measures, sigma: float) -> Iterator[Finding]:
    """Where credit is not made of δL, its curvature does no harm: units driven too far do."""
    known = [node for node in m.nodes if node.relative_sigma is not None]
    worst = max(known, key=lambda node: node.relative_sigma or 0.0, default=None)
    if worst is None or worst.relative_sigma is None or worst.relative_sigma <= DROWNED:
        return
    yield Finding(
        "--sigma",
        "lower",
        worst.name,
        worst.relative_sigma,
        f"at {sigma:g} the noise is {worst.relative_sigma:.2g} times the spread of the activity, "
        f"so that gains are measured far from where units work: try --sigma "
        f"{0.1 * sigma / worst.relative_sigma:.1g}",
    )


def _around(rungs: tuple[Rung, ...], sigma: float) -> list[Rung]:
    """Return the rungs next to σ, on both sides."""
    nearest = sorted(rungs, key=lambda rung: abs(math.log(rung.sigma / sigma)))
    return nearest[:2]


def _rate(m: Measures) -> Iterator[Finding]:
    lr = m.config.lr or 0.0
    if m.diverged:
        yield Finding("--lr", "lower", None, lr, f"the run diverged at {lr:g}: try {lr / 3:.2g}")
        return
    if len(m.trials) != 3:
        return
    low, now, high = m.trials
    if now.last > SLOWER * low.last or now.last > SLOWER * now.first:
        calm = low.last < SLOWER * low.first
        to = low.lr if calm else low.lr / 10
        yield Finding(
            "--lr",
            "lower",
            None,
            now.last,
            f"short runs from a loss of {now.first:.3g} reach {now.last:.3g} at {now.lr:.2g}, "
            f"{low.last:.3g} at {low.lr:.2g}: try --lr {to:.2g}",
        )
    elif high.last < FASTER * now.last:
        yield Finding(
            "--lr",
            "raise",
            None,
            now.last,
            f"short runs from a loss of {now.first:.3g} reach {now.last:.3g} at {now.lr:.2g}, "
            f"{high.last:.3g} at {high.lr:.2g}: try --lr {high.lr:.2g}",
        )


def _dead(m: Measures) -> Iterator[Finding]:
    for node in m.nodes:
        if node.dead is not None and node.dead > MOST_DEAD:
            yield Finding(
                "layer",
                "look at",
                node.name,
                node.dead,
                f"what {node.dead:.0%} of its units hand on does not depend on the sample: look at "
                "its weights, biases and what enters it (layers behind it see nothing either)",
            )
            return


def _regression(m: Measures) -> Iterator[Finding]:
    c = m.config
    rows = c.batch_size * c.resamples
    if rows >= FEW_ROWS and m.steps < SETTLED:
        return
    for node in m.nodes:
        found = _lagging(node) if METHODS[c.rule].mirrors else None
        found = _untaught(node) if METHODS[c.rule].taught_by_dloss else found
        if found is not None:
            number, what = found
            more = max(FEW_ROWS, 4 * c.batch_size)
            yield Finding(
                "--batch-size",
                "raise",
                node.name,
                number,
                f"{what}; a step shows {rows} rows to the regression: try --batch-size {more}, or "
                f"--resamples {max(2, round(more / c.batch_size))}",
            )
            return


def _lagging(node: NodeMeasures) -> tuple[float, str] | None:
    if node.learnt is None or node.ridge is None or node.ridge < EXPLAINS:
        return None
    if node.learnt >= MIRRORED * node.ridge:
        return None
    return node.learnt, (
        f"its mirror explains {node.learnt:.2f} of δa, where least squares explain {node.ridge:.2f}"
    )


def _untaught(node: NodeMeasures) -> tuple[float, str] | None:
    if node.slope is None or node.slope_error is None:
        return None
    if node.slope + SURE * node.slope_error >= TRUSTED:
        return None
    return node.slope, f"only {max(node.slope, 0):.2f} of its credit is right, the rest is noise"


def summary(findings: Sequence[Finding]) -> str:
    """Return the advice as text, a line each.

    >>> summary([])
    'nothing stands out'
    """
    if not findings:
        return "nothing stands out"
    return "\n".join(str(finding) for finding in findings)
