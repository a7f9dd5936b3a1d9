"""Advice derived from measures: which setting to change, in which direction, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from noisynets.diagnose.ladder import Rung, best
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.estimators.methods import METHODS

ROUNDED = 0.05
"""Limit of the distortion at a σ below the best one, above which rounding or the system's own noise
is reported. The limit is low because a larger σ has no drawback there."""
CURVED = 0.4
"""Limit of the distortion at a σ above the best one, above which curvature is reported: curvature
then makes a sixth of the power of δL. Kinks of the units alone make up to 0.3 at any σ in networks
that train well."""
DROWNED = 1.0
"""Limit of injected σ over the standard deviation of the activity, above which gains are measured
outside the range in which units usually work. On MNIST, mirrored credit trains equally well up to
1; at 3 its accuracy is one point lower."""
WORSE = 2.0
"""Factor by which the distortion must exceed that at the best σ."""
SLOWER = 1.3
"""Ratio of the loss at the learning rate to that at a third of it, above which the rate is too
high. At good rates, a third of the rate learns more slowly in short runs."""
FASTER = 0.6
"""Ratio of the loss at three times the learning rate to that at the rate, below which the rate is
too low."""
MIRRORED = 0.8
"""Fraction of the R² of least squares that a learnt map should reach. Converged mirrors reach 0.95
to 1."""
EXPLAINS = 0.05
"""R² of least squares below which the noise is too large for any map to be found."""
TRUSTED = 0.35
"""Limit of the slope of δL on the prediction of learned credit, which is the fraction of signal in
the credit's power; 0.5 to 0.9 in networks that train well."""
FEW_ROWS = 32
"""Rows per update below which a poor regression is attributed to the batch size at any time."""
SETTLED = 1000
"""Training steps after which it is attributed to the batch size for any batch; before, it may
simply not have converged."""
MOST_DEAD = 0.5
"""Fraction of dead units above which a layer is reported as dead."""
SURE = 2.0
"""Number of standard errors by which a measure must be beyond its limit."""


@dataclass(frozen=True)
class Finding:
    """One piece of advice.

    Attributes:
        knob: command-line option to change, or 'layer' for the layer itself.
        direction: 'raise', 'lower' or 'look at'.
        layer: path of the node; None: the whole system.
        number: measured value that led to the advice.
        reason: one sentence that states this value and what to try.
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
    """Return what to change first, without problems that may only be consequences of it.

    The order is σ, learning rate, dead layers, regressions: with a wrong σ the loss says nothing
    about the learning rate, in a diverged system regressions are meaningless, and a dead layer
    passes on no signal.

    Args:
        m: measures of a system.

    Returns:
        Findings about the first of these topics that has any; an empty list if none has.
    """
    for look in (_sigma, _rate, _dead, _regression):
        found = list(look(m))
        if found:
            return found
    return []


def _sigma(m: Measures) -> Iterator[Finding]:
    """Yield advice on σ from the distortion of loss differences."""
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
    added = f"adds {now.distortion:.2g} times the linear part of δL"
    if now.sigma < good and now.distortion > ROUNDED:
        yield Finding(
            "--sigma",
            "raise",
            None,
            now.distortion,
            f"at σ = {sigma:g} rounding or the system's own noise {added}, at σ = {good:g} "
            f"{least:.2g}: try --sigma {good:g}",
        )
    elif now.sigma > good and now.distortion > CURVED:
        yield Finding(
            "--sigma",
            "lower",
            None,
            now.distortion,
            f"at σ = {sigma:g} the curvature of the loss {added}, at σ = {good:g} "
            f"{least:.2g}: try --sigma {good:g}",
        )


def _drowned(m: Measures, sigma: float) -> Iterator[Finding]:
    """Yield advice on a σ that is large beside the activities, for rules that do not use δL.

    The curvature of the loss does not affect such rules.
    """
    known = [node for node in m.nodes if node.relative_sigma is not None]
    worst = max(known, key=lambda node: node.relative_sigma or 0.0, default=None)
    if worst is None or worst.relative_sigma is None or worst.relative_sigma <= DROWNED:
        return
    yield Finding(
        "--sigma",
        "lower",
        worst.name,
        worst.relative_sigma,
        f"at σ = {sigma:g} the noise is {worst.relative_sigma:.2g} times the standard deviation of "
        f"the activity, so that gains are measured outside the units' usual range: try --sigma "
        f"{0.1 * sigma / worst.relative_sigma:.1g}",
    )


def _around(rungs: tuple[Rung, ...], sigma: float) -> list[Rung]:
    """Return the two rungs whose σ is closest."""
    nearest = sorted(rungs, key=lambda rung: abs(math.log(rung.sigma / sigma)))
    return nearest[:2]


def _rate(m: Measures) -> Iterator[Finding]:
    """Yield advice on the learning rate from short runs at three rates."""
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
            f"short runs from a loss of {now.first:.3g} reach {now.last:.3g} at lr {now.lr:.2g}, "
            f"{low.last:.3g} at lr {low.lr:.2g}: try --lr {to:.2g}",
        )
    elif high.last < FASTER * now.last:
        yield Finding(
            "--lr",
            "raise",
            None,
            now.last,
            f"short runs from a loss of {now.first:.3g} reach {now.last:.3g} at lr {now.lr:.2g}, "
            f"{high.last:.3g} at lr {high.lr:.2g}: try --lr {high.lr:.2g}",
        )


def _dead(m: Measures) -> Iterator[Finding]:
    """Yield the first dead layer."""
    for node in m.nodes:
        if node.dead is not None and node.dead > MOST_DEAD:
            yield Finding(
                "layer",
                "look at",
                node.name,
                node.dead,
                f"the output of {node.dead:.0%} of its units does not depend on the sample: check "
                "its weights, biases and inputs (later layers receive no signal from them)",
            )
            return


def _regression(m: Measures) -> Iterator[Finding]:
    """Yield advice on the batch size from the first node whose regression is poor."""
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
                f"{what}; a step has {rows} rows for the regression: try --batch-size {more}, or "
                f"--resamples {max(2, round(more / c.batch_size))}",
            )
            return


def _lagging(node: NodeMeasures) -> tuple[float, str] | None:
    """Return the R² of a mirror that is well below least squares, with a sentence."""
    if node.learnt is None or node.ridge is None or node.ridge < EXPLAINS:
        return None
    if node.learnt >= MIRRORED * node.ridge:
        return None
    return node.learnt, (
        f"its mirror explains {node.learnt:.2f} of δa, least squares explain {node.ridge:.2f}"
    )


def _untaught(node: NodeMeasures) -> tuple[float, str] | None:
    """Return the slope of learned credit that is mostly noise, with a sentence."""
    if node.slope is None or node.slope_error is None:
        return None
    if node.slope + SURE * node.slope_error >= TRUSTED:
        return None
    return node.slope, f"only {max(node.slope, 0):.2f} of its credit's power is signal, not noise"


def summary(findings: Sequence[Finding]) -> str:
    """Return the advice as text, one line for each finding.

    >>> summary([])
    'nothing stands out'
    """
    if not findings:
        return "nothing stands out"
    return "\n".join(str(finding) for finding in findings)
