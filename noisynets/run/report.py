"""Pictures of a run: learning curves, and spikes of a spiking network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisynets.core.captions import literal
from noisynets.run.checkpoint import write_atomically
from noisynets.systems.spiking import Recording
from noisynets.tasks.data import ACCURACY, Measure


def draw_curves(
    path: Path, rows: Sequence[dict[str, Any]], summary: dict[str, Any], measure: Measure
) -> None:
    """Draw loss and score against epochs, with the test score, as a PNG.

    Args:
        path: path of the picture.
        rows: rows of metrics.csv.
        summary: contents of summary.json.
        measure: measure of the task.
    """
    from matplotlib.figure import Figure

    score, factor = measure.name, 100 if measure is ACCURACY else 1
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for part, label, style in (("train", "training", "-"), ("val", "validation", "--")):
        if rows[0][f"{part}_loss"] is None:
            continue
        left.plot(epochs, [row[f"{part}_loss"] for row in rows], style, label=label, marker=".")
        scores = [factor * row[f"{part}_{score}"] for row in rows]
        right.plot(epochs, scores, style, label=label, marker=".")
    if summary[f"test_{score}"] is not None:
        test = factor * summary[f"test_{score}"]
        label = (
            f"test, once at the end: {test:.2f} %" if measure is ACCURACY else f"test: {test:.4g}"
        )
        right.axhline(test, color="0.4", lw=1, ls=":", label=label)
    left.set(xlabel="epoch", ylabel=measure.loss.__name__.replace("_", "-"))
    if measure.higher and measure.explodes:
        left.set_ylim(bottom=0)
    elif not measure.higher:  # errors fall by orders of magnitude
        left.set_yscale("log")
        right.set_yscale("log")
    right.set(xlabel="epoch", ylabel=f"{score} (%)" if measure is ACCURACY else score)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(literal("{task}, {system}, rule {rule}, seed {seed}".format(**summary)))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=130)
    write_atomically(path, image.getvalue())


def draw_spikes(path: Path, title: str, recordings: Sequence[Recording]) -> None:
    """Draw spikes, membrane potentials and firing rates of every population, as a PNG.

    Each population has one row: a raster of the spikes in the first trial, the potentials of its
    three most active neurons with the threshold, and a histogram of the firing rates over all
    trials.

    Args:
        path: path of the picture.
        title: title of the picture.
        recordings: recordings of one or more trials, one for each population.
    """
    from matplotlib.figure import Figure

    rows = len(recordings)
    figure = Figure(figsize=(13, 0.6 + 2.8 * rows), layout="constrained")
    for axes, found in zip(figure.subplots(rows, 3, squeeze=False), recordings, strict=True):
        raster, traces, rates = axes
        spikes, potential = found.spikes.flatten(2), found.potential.flatten(2)
        steps, neurons = spikes.shape[1:]
        when, which = spikes[0].nonzero(as_tuple=True)
        raster.plot(when, which, "|", ms=5, color="0.2")
        raster.set(xlim=(-0.5, steps - 0.5), ylim=(-0.5, neurons - 0.5), ylabel="neuron")
        raster.set_title(f"{found.name}: {neurons} neurons, one trial")
        most_active = spikes[0].sum(0).topk(min(3, neurons)).indices
        for i in most_active.tolist():
            traces.plot(potential[0, :, i], marker=".", label=f"neuron {i}")
        traces.axhline(found.threshold, color="0.4", ls=":", lw=1, label="threshold")
        traces.set(ylabel="potential")
        traces.set_title("its three most active neurons")
        traces.legend(fontsize=7)
        per_neuron = spikes.mean((0, 1))
        rates.hist(per_neuron.numpy(), bins=30, color="C0")
        rates.set(xlabel="spikes per step", ylabel="neurons")
        rates.set_title(f"rates over {len(spikes)} trials: mean {found.rate:.3f}")
        for panel in (raster, traces):
            panel.set_xlabel("step")
            panel.xaxis.get_major_locator().set_params(integer=True)
        traces.grid(alpha=0.3)
    figure.suptitle(literal(title))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    write_atomically(path, image.getvalue())
