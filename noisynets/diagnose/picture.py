"""Picture of a diagnosis."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from noisynets.core.captions import literal
from noisynets.diagnose.advice import Finding, summary
from noisynets.diagnose.ladder import best
from noisynets.diagnose.measures import Measures
from noisynets.diagnose.statistics import ENDLESS
from noisynets.diagnose.table import title
from noisynets.run.checkpoint import write_atomically

SNR = "signal to noise"


def draw(path: Path, m: Measures, findings: Sequence[Finding]) -> None:
    """Draw the measures, one panel for each, with the advice below, as a PNG.

    Args:
        path: path of the picture.
        m: the measures.
        findings: the advice.
    """
    from matplotlib.figure import Figure

    panels: list[Callable[[Any], None]] = []
    if _any(m, "snr"):
        panels.append(lambda axes: _bars(axes, m, {"snr": ""}, SNR, log=True))
    if _any(m, "cosine"):
        with_what = "surrogate gradient" if m.surrogate else "true gradient"
        panels.append(lambda axes: _bars(axes, m, {"cosine": ""}, f"cosine with the {with_what}"))
    if _any(m, "share"):
        panels.append(lambda axes: _shares(axes, m))
    if _any(m, "ridge"):
        maps = {"learnt": "learnt", "ridge": "least squares"}
        maps = {key: label for key, label in maps.items() if _any(m, key)}
        panels.append(lambda axes: _bars(axes, m, maps, "R² of each layer's map"))
    if _any(m, "sigma"):
        relative = "σ over std of activity"
        panels.append(lambda axes: _bars(axes, m, {"relative_sigma": ""}, relative))
    if _any(m, "dead"):
        panels.append(lambda axes: _bars(axes, m, {"dead": ""}, "fraction of dead units", top=1.0))
    if m.rungs:
        panels.append(lambda axes: _rungs(axes, m))
    if m.trials:
        panels.append(lambda axes: _trials(axes, m))
    columns = min(4, len(panels))
    height = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.3 * columns, 0.9 + 2.7 * height), layout="constrained")
    axes = list(figure.subplots(height, columns, squeeze=False).flat)
    for panel, place in zip(panels, axes, strict=False):
        panel(place)
        place.grid(alpha=0.3)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    figure.suptitle(literal(title(m)))
    advice = "\n".join(fill(line, 40 * columns) for line in summary(findings).splitlines())
    figure.supxlabel(advice, fontsize=10, fontweight="bold" if findings else "normal")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    write_atomically(path, image.getvalue())


def _any(m: Measures, key: str) -> bool:
    """Return True if a measure is known for any node."""
    return any(getattr(node, key) is not None for node in m.nodes)


def _bars(
    axes: Any, m: Measures, keys: dict[str, str], what: str, log: bool = False, top: float = 0.0
) -> None:
    """Draw some measures of every layer as bars."""
    width = 0.8 / len(keys)
    for i, (key, label) in enumerate(keys.items()):
        values = [getattr(node, key) for node in m.nodes]
        places = [j + (i - (len(keys) - 1) / 2) * width for j in range(len(values))]
        noisy = [v for v in values if v is not None and v < ENDLESS]
        tallest = 10 * max(noisy, default=1.0)
        heights = [math.nan if v is None else tallest if v >= ENDLESS else v for v in values]
        for place, v in zip(places, values, strict=True):
            if v is not None and v >= ENDLESS:
                axes.annotate("no noise", (place, tallest), ha="center", va="top", fontsize=8)
        axes.bar(places, heights, width, color=f"C{i}", label=label)
    if log:
        axes.set_yscale("log")
    if top:
        axes.set_ylim(0, top)
    if len(keys) > 1:
        axes.legend(fontsize=7, loc="lower left")
    _named(axes, m, what)


def _shares(axes: Any, m: Measures) -> None:
    """Draw the fraction of δL that each layer's credit explains."""
    shares = [math.nan if node.share is None else node.share for node in m.nodes]
    errors = [node.share_error or 0.0 for node in m.nodes]
    axes.bar(range(len(shares)), shares, 0.8, yerr=errors, color="C0", ecolor="0.3", capsize=2)
    if m.explained is not None:
        axes.axhline(m.explained, color="C1", ls="--", lw=1, label=f"total {m.explained:.2f}")
        axes.legend(fontsize=7)
    _named(axes, m, "fraction of δL explained")


def _named(axes: Any, m: Measures, what: str) -> None:
    """Label a panel and its layers."""
    names = [node.name for node in m.nodes]
    turn = 90 if max(map(len, names)) * len(names) > 24 else 0
    axes.set_xticks(range(len(names)), names, rotation=turn, fontsize=7 if turn else 9)
    axes.set(xlabel="layer")
    axes.set_title(what, fontsize=10)


def _rungs(axes: Any, m: Measures) -> None:
    """Draw the distortion against σ."""
    axes.loglog([r.sigma for r in m.rungs], [r.distortion for r in m.rungs], marker=".")
    axes.axvline(best(m.rungs), color="C2", lw=1, ls=":", label=f"best {best(m.rungs):g}")
    if m.config.injected is not None:
        axes.axvline(m.config.injected, color="C1", lw=1, label=f"now {m.config.injected:g}")
    axes.set(xlabel="σ")
    axes.set_title("distortion: curvature, rounding", fontsize=10)
    axes.legend(fontsize=7)


def _trials(axes: Any, m: Measures) -> None:
    """Draw the loss of short runs against the learning rate."""
    known = [t for t in m.trials if math.isfinite(t.last)]
    axes.loglog([t.lr for t in known], [t.last for t in known], marker="o")
    if m.config.lr is not None:
        axes.axvline(m.config.lr, color="C1", lw=1, label=f"now {m.config.lr:g}")
    axes.axhline(m.trials[0].first, color="0.4", lw=1, ls=":", label="at the start")
    axes.set(xlabel="learning rate")
    axes.set_title("loss in short runs", fontsize=10)
    axes.legend(fontsize=7)
