"""Pictures of a trained classifier: confusion and accuracy by class, mistakes, filters."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from noisynets.core.captions import literal
from noisynets.diagnose.images import Filters, coloured, picture
from noisynets.diagnose.predictions import Predictions
from noisynets.run.checkpoint import write_atomically
from noisynets.tasks.data import Examples

WRITTEN = 20
"""Classes, at most, of a confusion matrix whose cells show their numbers."""
SHORT = 3
"""Letters of the names of classes, at most, that are not slanted below a matrix."""
MISTAKES = 20
"""Mistakes that are drawn, at most."""


def draw_confusion(path: Path, title: str, found: Predictions) -> None:
    """Draw the confusion matrix, with the accuracy of each class beside its row, as a PNG.

    Args:
        path: path of the picture.
        title: title of the picture.
        found: predictions.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    counts = found.confusion
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    n, size = found.classes, min(9.0, 2.4 + 0.45 * found.classes)
    figure = Figure(figsize=(1.35 * size + 0.8, size + 0.8), layout="constrained")
    matrix, bars = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    tones = PowerNorm(0.5, 0, 1)  # rare mistakes are seen, too
    image = matrix.imshow(shares.numpy(), cmap="Blues", norm=tones, aspect="auto")
    values = [math.nan if value is None else 100 * value for value in found.by_class]
    bars.barh(range(n), values, color="C0", height=0.8)
    if n <= WRITTEN:
        for row in range(n):
            for column in range(n):
                colour = "white" if shares[row, column] > 0.3 else "0.2"
                text, where = str(int(counts[row, column])), {"ha": "center", "va": "center"}
                matrix.text(column, row, text, color=colour, fontsize=9, **where)
            place, colour = (2, "white") if values[row] > 25 else (values[row] + 2, "0.2")
            if found.by_class[row] is not None:
                bars.text(place, row, f"{values[row]:.1f}", va="center", color=colour, fontsize=9)
        turned = {"rotation": 45, "ha": "right"} if max(map(len, found.names)) > SHORT else {}
        names = [literal(name) for name in found.names]
        matrix.set_xticks(range(n), names, **turned)
        matrix.set_yticks(range(n), names)
    else:
        figure.colorbar(image, ax=matrix, label="fraction of the true class", pad=0.01)
    matrix.set(xlabel="predicted class", ylabel="true class")
    bars.axvline(100 * found.accuracy, color="C1", ls="--", lw=1.2)
    bars.set(xlim=(0, 100), xlabel="accuracy (%)")
    bars.set_title(f"all: {100 * found.accuracy:.2f} %", color="C1", fontsize=10)
    bars.tick_params(left=False)
    bars.grid(axis="x", alpha=0.3)
    figure.suptitle(f"{literal(title)}\n{len(found.labels):,} {found.part} examples", fontsize=11)
    _save(figure, path)


def draw_mistakes(path: Path, title: str, found: Predictions, examples: Examples) -> None:
    """Draw the mistakes with the highest losses, with true and predicted class, as a PNG.

    Args:
        path: path of the picture.
        title: title of the picture.
        found: predictions on `examples`.
        examples: pictures.
    """
    from matplotlib.figure import Figure

    worst = found.worst(MISTAKES)
    columns = min(5, max(1, len(worst)))
    rows = max(1, math.ceil(len(worst) / columns))
    figure = Figure(figsize=(max(6.0, 1.7 * columns), 0.9 + 2.1 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, index in zip(places, worst, strict=False):
        pixels = picture(examples, index).permute(1, 2, 0).squeeze(-1).numpy()
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        true, taken = map(literal, found.mistake(index))
        axes.set_title(f"is {true}\ntaken for {taken}\nloss {found.losses[index]:.2f}", size=9)
    for axes in places:
        axes.set_axis_off()
    wrong = int((found.labels != found.predicted).sum())
    shown = f"{len(worst)} of {wrong:,} mistakes" if wrong else "no mistakes"
    figure.suptitle(
        f"{literal(title)}\n{shown} on {len(found.labels):,} {found.part} examples", size=11
    )
    _save(figure, path)


def draw_filters(path: Path, title: str, found: Filters) -> None:
    """Draw the filters of a layer, as a PNG.

    Args:
        path: path of the picture.
        title: title of the picture.
        found: the filters.
    """
    from matplotlib.figure import Figure

    n = len(found.weights)
    columns = min(8, n)
    rows = math.ceil(n / columns)
    figure = Figure(figsize=(max(6.0, 1.1 * columns), 0.9 + 1.1 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, weights in zip(places, found.weights, strict=False):
        axes.imshow(coloured(weights).numpy(), interpolation="nearest")
    for axes in places:
        axes.set_axis_off()
    figure.suptitle(f"{literal(title)}\n{caption(found)}", size=11)
    _save(figure, path)


def caption(found: Filters) -> str:
    """Say which filters are shown, and in which colours."""
    n, channels = found.weights.shape[:2]
    which = f"{n} filters" if n == found.of else f"{n} largest of {found.of} filters"
    colours = "red positive, blue negative" if channels == 1 else "grey is 0"
    return f"{which} of {found.name}, each on its own scale ({colours})"


def _save(figure: Any, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, image.getvalue())
