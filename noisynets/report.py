"""Pictures of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from noisynets.checkpoint import write_atomically


def draw_curves(path: Path, rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Draw loss and accuracy against epochs, with the test accuracy, as a PNG.

    Args:
        path: of the picture.
        rows: of metrics.csv.
        summary: of the run.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for part, label, style in (("train", "training", "-"), ("val", "validation", "--")):
        if rows[0][f"{part}_loss"] is None:
            continue
        left.plot(epochs, [row[f"{part}_loss"] for row in rows], style, label=label, marker=".")
        accuracy = [100 * row[f"{part}_accuracy"] for row in rows]
        right.plot(epochs, accuracy, style, label=label, marker=".")
    if summary["test_accuracy"] is not None:
        test = 100 * summary["test_accuracy"]
        label = f"test, once at the end: {test:.2f} %"
        right.axhline(test, color="0.4", lw=1, ls=":", label=label)
    left.set(xlabel="epoch", ylabel="cross-entropy")
    left.set_ylim(bottom=0)
    right.set(xlabel="epoch", ylabel="accuracy (%)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("{task}, {system}, rule {rule}, seed {seed}".format(**summary))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())
