"""A diagnosis as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from noisynets.diagnose.advice import Finding, summary
from noisynets.diagnose.measures import Measures, NodeMeasures
from noisynets.diagnose.statistics import ENDLESS

COLUMNS: dict[str, str] = {
    "SNR": "snr",
    "cosine": "cosine",
    "share of dL": "share",
    "slope": "slope",
    "sigma": "sigma",
    "sigma/spread": "relative_sigma",
    "map R2": "learnt",
    "best R2": "ridge",
    "dead": "dead",
}


def number(value: float | None) -> str:
    """Format a number with three digits, and None as a dash.

    >>> number(0.012345), number(None), number(1e9)
    ('0.0123', '–', '1e+09')
    """
    return "–" if value is None else f"{value:.3g}"


def table(m: Measures) -> str:
    """Return the measures as text: one row for each layer, then those of the whole system."""
    shown = {
        title: key
        for title, key in COLUMNS.items()
        if any(getattr(node, key) is not None for node in m.nodes)
    }
    rows = [["layer", *shown], *([n.name, *(_cell(n, k) for k in shown.values())] for n in m.nodes)]
    lines = [title(m), "", *_aligned(rows)]
    if m.explained is not None and m.explained_error is not None:
        lines.append(
            f"credit explains {m.explained:.2f} ± {m.explained_error:.2f} of the power of δL; "
            f"rms δL {number(m.dloss)}, rounding of the loss {number(m.rounding)} of that"
        )
    if m.surrogate and "cosine" in shown:
        lines.append("cosines are taken with the gradient by surrogate derivatives of spikes")
    if m.rungs:
        rungs = [r for i, r in enumerate(m.rungs) if i % 2 == 0]
        cells = [
            ["sigma", *(f"{r.sigma:.0e}" for r in rungs)],
            ["distortion", *(f"{r.distortion:.2g}" for r in rungs)],
        ]
        lines += ["", *_aligned(cells)]
    if m.trials:
        runs = (f"{t.lr:.2g}: {t.first:.3g} → {t.last:.3g}" for t in m.trials)
        lines += ["", f"loss in short runs at lr {', '.join(runs)}"]
    if m.notes:
        lines += ["", *(f"warning: {note}" for note in m.notes)]
    return "\n".join(lines)


def title(m: Measures) -> str:
    """Return the heading: system, task, rule and main settings, training steps and loss."""
    c = m.config
    parts = [f"{c.system} on {c.task}", f"rule {c.rule}"]
    parts += [] if c.injected is None else [f"sigma {c.injected:g}"]
    parts += [f"batch {c.batch_size}", f"lr {c.lr:g}"]
    return f"{', '.join(parts)}; after {m.steps} steps, loss {m.loss:.3g}"


def as_json(m: Measures, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return measures and findings as JSON values; numbers that are not finite become None."""
    values = asdict(m)
    values["rungs"] = [{**asdict(r), "distortion": r.distortion} for r in m.rungs]
    values["findings"] = [asdict(finding) for finding in findings]
    values["advice"] = summary(findings)
    found: dict[str, Any] = _finite(values)
    return found


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by None, and tuples by lists."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    unsound = isinstance(value, float) and (value != value or abs(value) == float("inf"))
    return None if unsound else value


def _cell(node: NodeMeasures, key: str) -> str:
    """Format one measure of a node."""
    value = getattr(node, key)
    if value is None:
        return "–"
    if key == "dead":
        return f"{value:.0%}"
    if key == "snr":
        return "no noise" if value >= ENDLESS else f"{value:.2g}"
    return f"{value:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns to equal width, with the first one left-aligned and the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
