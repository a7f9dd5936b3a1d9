"""Pictures of a suite: learning curves, scores against learning rate, scores along an axis."""

from __future__ import annotations

import io
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from noisynets.bench.results import Group, of_part
from noisynets.bench.run import judged_by
from noisynets.core.captions import literal
from noisynets.core.errors import InputError
from noisynets.run.checkpoint import write_atomically
from noisynets.run.folder import RunFolder
from noisynets.run.settings import task_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = dict[str, list[RunFolder]]
"""Finished runs by label; the runs under one label differ only in their seed."""


def draw_curves(path: Path, cases: dict[str, Curves]) -> None:
    """Draw validation scores against epochs and sample-forwards, one row of panels for each case.

    A line is the mean over seeds, its band the range.

    Args:
        path: path of the PNG.
        cases: runs by case and label.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4 * len(cases)), layout="constrained")
    rows = figure.subplots(len(cases), 2, squeeze=False, sharey="row")
    labels = list(dict.fromkeys(label for curves in cases.values() for label in curves))
    for (left, right), (case, curves) in zip(rows, cases.items(), strict=True):
        name = ""
        for label, folders in curves.items():
            config = folders[0].config("cpu")
            name, factor = scale(task_of(config).measure.name)
            score = task_of(config).measure.name
            runs = [_metrics(folder, score) for folder in folders]
            epochs = min(map(len, runs))
            by_epoch = [[factor * run[e][f"val_{score}"] for run in runs] for e in range(epochs)]
            for axes, column in ((left, "epoch"), (right, "sample_forwards")):
                x = [row[column] for row in runs[0][:epochs]]
                text = label if axes is left else None
                style = {"color": colour(labels.index(label)), "marker": "." if epochs < 3 else ""}
                axes.plot(
                    x,
                    [mean(values) for values in by_epoch],
                    label=literal(text) if text else None,
                    **style,
                )
                low, high = [min(v) for v in by_epoch], [max(v) for v in by_epoch]
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, lw=0)
        left.set(xlabel="epoch", ylabel=f"validation {name}", title=literal(case))
        left.xaxis.get_major_locator().set_params(integer=True)
        _label_costs(right)
        left.set_yscale(scale_of_axis(name))
        for axes in (left, right):
            axes.grid(alpha=0.3)
        right.legend(
            *left.get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.01, 0.5)
        )
    save(figure, path)


def _label_costs(axes: Any) -> None:
    """Label the x axis of sample-forwards."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axes.set(xlabel="forward passes × samples", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_rates(path: Path, groups: Sequence[Group]) -> None:
    """Draw every candidate's validation score, averaged over seeds, against its learning rate.

    A line connects the candidates that differ from the best one in their learning rate only;
    crosses are the other candidates.

    Args:
        path: path of the PNG; nothing is drawn if no settings were searched for.
        groups: runs by case and rule.
    """
    from matplotlib.figure import Figure

    cases = {g.case: [o for o in groups if o.case == g.case and o.candidates] for g in groups}
    cases = {case: own for case, own in cases.items() if own}
    if not cases:
        return
    figure = Figure(figsize=(7.5, 4 * len(cases)), layout="constrained")
    rules = list(dict.fromkeys(group.rule for group in groups))
    for axes, (case, own) in zip(
        figure.subplots(len(cases), 1, squeeze=False)[:, 0], cases.items(), strict=True
    ):
        name = ""
        for group in own:
            shade = colour(rules.index(group.rule))
            best = group.candidates[0][0].run.config
            name, factor = scale(judged_by(best)[0])
            line: list[tuple[float, float]] = []
            dots: list[tuple[float, float]] = []
            for results in group.candidates:
                config = results[0].run.config
                values = [v for result in results if (v := of_part(result, "val")) is not None]
                if len(values) == len(results):
                    alike = (config.injected, config.decor_lr) == (best.injected, best.decor_lr)
                    (line if alike else dots).append((config.lr or 0.0, factor * mean(values)))
            if line:
                x, y = zip(*sorted(line), strict=True)
                axes.plot(x, y, ".-", color=shade, label=group.rule)
            if dots:
                axes.plot(*zip(*dots, strict=True), "x", color=shade, ms=4, alpha=0.6)
        axes.set(
            xlabel="learning rate", xscale="log", ylabel=f"validation {name}", title=literal(case)
        )
        axes.set_yscale(scale_of_axis(name))
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, path)


def draw_axes(path: Path, groups: Sequence[Group]) -> None:
    """Draw test errors along every axis of the suite; error bars are standard deviations.

    Args:
        path: path of the PNG; nothing is drawn if the cases do not differ along an axis.
        groups: runs by case and rule.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    at: dict[str, set[float]] = {}
    for axis, place in (pair for group in groups for pair in group.at):
        at.setdefault(axis, set()).add(place)
    names = [axis for axis, places in at.items() if len(places) > 1]
    if not names:
        return
    rules = list(dict.fromkeys(group.rule for group in groups))
    figure = Figure(figsize=(7.5, 4.6 * len(names)), layout="constrained")
    for axes, axis in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        places = set()
        name = ""
        for i, rule in enumerate(rules):
            on = [(dict(g.at)[axis], g) for g in groups if g.rule == rule and axis in dict(g.at)]
            own = sorted(((p, g) for p, g in on if g.values("test")), key=itemgetter(0))
            if not own:
                continue
            name = judged_by(own[0][1].config)[0]
            values = [[_error(v, name) for v in g.values("test")] for _, g in own]
            x = [place for place, _ in own]
            places |= set(x)
            axes.errorbar(
                x,
                [mean(v) for v in values],
                [stdev(v) if len(v) > 1 else 0.0 for v in values],
                marker=".",
                capsize=2,
                color=colour(i),
                label=rule,
            )
        error = "error (%)" if name == "accuracy" else name
        axes.set(
            xlabel=axis,
            ylabel=f"test {error}",
            yscale=scale_of_axis("" if name == "accuracy" else name),
        )
        if axes.get_yscale() == "log":
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ScalarFormatter())
        if places and max(places) > 10 * min(places) > 0:
            axes.set_xscale("log")
        axes.set_xticks(sorted(places), [f"{place:g}" for place in sorted(places)])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, path)


def _error(score: float, name: str) -> float:
    """Return the error in percent for accuracies, the score itself otherwise."""
    return 100 * (1 - score) if name == "accuracy" else score


def scale(name: str) -> tuple[str, float]:
    """Return the label of a score and the factor by which it is multiplied in a picture."""
    return ("accuracy (%)", 100.0) if name == "accuracy" else (name, 1.0)


def scale_of_axis(name: str) -> str:
    """Return 'log' for errors, which fall over decades, and 'linear' for accuracies and returns."""
    return "linear" if "%" in name or name == "return" else "log"


def colour(i: int) -> Any:
    """Return colour number i of twenty distinct ones."""
    from matplotlib import colormaps

    return colormaps["tab20"]((2 * i % 20 + (i // 10) % 2) / 19.99)


def _metrics(folder: RunFolder, score: str) -> list[dict[str, float]]:
    """Read the rows of a run's metrics.csv, without its empty cells."""
    rows = folder.metrics(score)
    found = [{k: v for k, v in row.items() if v is not None} for row in rows]
    if not all({"epoch", "sample_forwards", f"val_{score}"} <= row.keys() for row in found):
        raise InputError(f"{folder.path}: metrics.csv has no {score} of validation: restore it")
    if scale_of_axis(scale(score)[0]) == "log" and not all(
        row[f"val_{score}"] > 0 for row in found
    ):
        raise InputError(
            f"{folder.path}: metrics.csv has a {score} that is not positive: restore it"
        )
    return found


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, bbox_inches="tight")
    write_atomically(path, image.getvalue())
