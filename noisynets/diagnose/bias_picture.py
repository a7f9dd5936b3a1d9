"""Picture of the bias of rules, and the same in words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisynets.core.captions import literal
from noisynets.diagnose.bias import COUNTS, Bias
from noisynets.run.checkpoint import write_atomically

SHOWN = (1, 16, COUNTS[-1])
"""N of the columns of the table."""


def draw_bias(path: Path, title: str, found: Sequence[Bias]) -> None:
    """Draw the cosines against N as a PNG: of all layers on the left, of the lowest on the right.

    Args:
        path: of the picture.
        title: of the picture.
        found: a curve each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for i, rule in enumerate(found):
        name, curve = lowest(rule)
        left.plot(COUNTS, rule.whole, marker=".", color=f"C{i}", label=rule.rule)
        right.plot(COUNTS, curve, marker=".", color=f"C{i}", label=f"{rule.rule}: {name}")
    left.set(title="all layers in one vector", ylabel="cosine with the gradient")
    right.set(title="the layer with the lowest cosine")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(COUNTS[::2], map(str, COUNTS[::2]))
        axes.set(xlabel="N, estimates of one batch in the mean")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.suptitle(literal(title))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())


def bias_table(found: Sequence[Bias]) -> str:
    """Return a line per rule: cosines of all layers, and of the lowest layer, for some N.

    >>> layers = {"a": (0.1,) * 9, "b": (0.5,) * 9}
    >>> print(bias_table([Bias("anp", (0.25,) * 9, layers)]))
    cosine of the mean of N   N = 1     16    256   lowest layer, N = 256
    anp                       0.250  0.250  0.250   0.100 a
    """
    head = "".join(f"{f'N = {n}' if n == SHOWN[0] else n:>7}" for n in SHOWN)
    lines = [f"{'cosine of the mean of N':24}{head}   lowest layer, N = {SHOWN[-1]}"]
    for rule in found:
        name, curve = lowest(rule)
        cells = "".join(f"{rule.whole[COUNTS.index(n)]:7.3f}" for n in SHOWN)
        lines.append(f"{rule.rule:24}{cells}   {curve[-1]:.3f} {name}")
    return "\n".join(lines)


def bias_as_json(found: Sequence[Bias]) -> dict[str, Any]:
    """Return all cosines as JSON values."""
    rules = {rule.rule: {"whole": rule.whole, "layers": rule.layers} for rule in found}
    return {"estimates": COUNTS, "rules": rules}


def lowest(rule: Bias) -> tuple[str, tuple[float, ...]]:
    """Return the layer whose cosine is lowest at the largest N, with its curve."""
    return min(rule.layers.items(), key=lambda item: item[1][-1])
