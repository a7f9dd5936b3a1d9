"""Figures with hover, by plotly; the page gives them the colours of its scheme."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

from noisynets.core.extras import extra
from noisynets.run.page.blocks import Plot

MARKED = 30
"""Points, at most, of a line that marks each of them."""
SPREAD = 30
"""Ratio of bars from which on their axis is logarithmic."""


class Line(NamedTuple):
    """A line of a figure.

    Attributes:
        label: in the legend.
        x: where its points are.
        y: their values; None: no value.
        dash: 'solid', 'dash' or 'dot'.
        low: lower edge of a band around it; empty: none.
        high: upper edge.
        colour: number of its colour; None: the next one.
        joined: False if only points are shown.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    dash: str = "solid"
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    colour: int | None = None
    joined: bool = True


def curves(
    caption: str, lines: Sequence[Line], x: str, y: str, *, logs: str = "", height: int = 320
) -> Plot:
    """Return a figure of lines.

    Args:
        caption: what it shows.
        lines: the lines; labels may come from others.
        x: label of the axis.
        y: label of the axis.
        logs: names of the axes that are logarithmic: '', 'x', 'y' or 'xy'.
        height: in pixels.
    """
    go = _plotly()

    figure = go.Figure()
    for i, line in enumerate(lines):
        name, number = escape(line.label), i if line.colour is None else line.colour
        if line.low:
            band = {"x": [*line.x, *reversed(line.x)], "y": [*line.high, *reversed(line.low)]}
            style = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
            figure.add_scatter(
                **band, **style, fill="toself", opacity=0.25, showlegend=False,
                legendgroup=name, meta={"colour": number},
            )  # fmt: skip
        mode = "lines+markers" if len(line.x) <= MARKED else "lines"
        figure.add_scatter(
            x=list(line.x), y=list(line.y), mode=mode if line.joined else "markers", name=name,
            legendgroup=name, line={"dash": line.dash, "width": 2}, meta={"colour": number},
            hovertemplate="%{y:.5~g}",
        )  # fmt: skip
    across = [at for line in lines for at in line.x]
    figure.update_xaxes(title=x, **(_logarithmic(across) if "x" in logs else _whole(across)))
    along = [value for line in lines for value in line.y if value is not None]
    figure.update_yaxes(title=y, **(_logarithmic(along) if "y" in logs else {}))
    figure.update_layout(hovermode="x unified", hoverdistance=-1, showlegend=len(lines) > 1)
    return _plot(caption, figure, height)


def heatmap(
    caption: str,
    values: Sequence[Sequence[float]],
    hover: Sequence[Sequence[str]],
    x: str,
    y: str,
    *,
    names: Sequence[str],
    written: Sequence[Sequence[str]] = (),
) -> Plot:
    """Return a square matrix as a figure, whose first row is at the top.

    Args:
        caption: what it shows.
        values: of the cells, from 0 to 1.
        hover: text of each cell.
        x: label of the columns.
        y: label of the rows.
        names: of the rows, and of the columns.
        written: what stands in the cells; empty: nothing.
    """
    go = _plotly()

    shown: dict[str, Any] = {"text": written, "texttemplate": "%{text}"} if written else {}
    cells = go.Heatmap(
        z=values, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        coloraxis="coloraxis", xgap=1, ygap=1, **shown,
    )  # fmt: skip
    figure = go.Figure(cells)
    places = list(range(len(names)))
    ticks = {"tickvals": places, "ticktext": list(names)} if len(names) <= 20 else {}
    figure.update_xaxes(title=x, showgrid=False, zeroline=False, constrain="domain", **ticks)
    figure.update_yaxes(title=y, autorange="reversed", showgrid=False, zeroline=False, **ticks)
    figure.update_layout(coloraxis={"cmin": 0, "cmax": 1, "showscale": False})
    return _plot(caption, figure, 440)


def raster(
    caption: str, steps: Sequence[int], neurons: Sequence[int], shape: tuple[int, int]
) -> Plot:
    """Return spikes as a figure.

    Args:
        caption: what it shows.
        steps: of the spikes.
        neurons: that have spiked.
        shape: number of steps and of neurons.
    """
    go = _plotly()

    marker = {"symbol": "line-ns-open", "size": 5, "line": {"width": 1.5}}
    hover = "neuron %{y}, step %{x}<extra></extra>"
    figure = go.Figure()
    figure.add_scatter(
        x=list(steps), y=list(neurons), mode="markers", marker=marker, hovertemplate=hover,
        meta={"colour": 0},
    )  # fmt: skip
    figure.update_xaxes(title="step", range=[-0.5, shape[0] - 0.5], zeroline=False)
    figure.update_yaxes(title="neuron", range=[-0.5, shape[1] - 0.5], zeroline=False)
    return replace(_plot(caption, figure, 320), wide=True)


def bars(
    caption: str,
    names: Sequence[str],
    values: Sequence[float | None],
    x: str,
    y: str,
    *,
    logs: str = "",
) -> Plot:
    """Return bars as a figure.

    Args:
        caption: what it shows.
        names: of the bars.
        values: their heights; None: no bar.
        x: what the names are.
        y: label of the axis.
        logs: 'y' if it is logarithmic where heights differ much.
    """
    go = _plotly()

    figure = go.Figure()
    labels = [escape(name) for name in names]
    figure.add_bar(x=labels, y=list(values), hovertemplate="%{y:.4~g}", meta={"colour": 0})
    figure.update_xaxes(title=x, type="category")
    known = [value for value in values if value is not None] or [0.0]
    axis = _logarithmic(known) if logs and 0 < min(known) * SPREAD < max(known) else {}
    if axis:  # bars begin a decade below the lowest
        axis["range"] = [math.log10(min(known)) - 1, math.log10(max(known)) + 0.1]
    figure.update_yaxes(title=y, **axis)
    figure.update_layout(hovermode="x unified")
    return _plot(caption, figure, 320)


def _whole(values: Sequence[float]) -> dict[str, Any]:
    """Return an axis with a tick at every whole number, where a few are all that is shown."""
    whole = bool(values) and all(value % 1 == 0 for value in values)
    return {"dtick": 1} if whole and max(values) - min(values) <= 10 else {}


def _logarithmic(values: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis with readable ticks; a linear one if a value is not positive.

    >>> _logarithmic([0.9, 30])["tickvals"]
    [1, 2, 5, 10, 20]
    >>> _logarithmic([0.0, 1.0])
    {}
    """
    if not values or not all(0 < value < math.inf for value in values):
        return {}
    low, high = min(values), max(values)
    decades = math.log10(high / low)
    steps = (1.0, 1.5, 2, 3, 4, 5, 6, 8) if decades < 0.8 else (1, 2, 5) if decades < 2.5 else (1,)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step * 10.0**power:.2g}") for power in powers for step in steps]
    kept = [int(t) if t % 1 == 0 else t for t in ticks if 0.95 * low <= t <= 1.05 * high]
    form = "~s" if high >= 1e4 else "~g"
    return (
        {"type": "log", "tickvals": kept, "tickformat": form} if len(kept) > 1 else {"type": "log"}
    )


def _plot(caption: str, figure: Any, height: int) -> Plot:
    """Return a block with a figure; the page has its colours and margins (templates/page.js)."""
    figure.update_layout(template="none")
    return Plot(caption, json.loads(figure.to_json()), height)


def _plotly() -> Any:
    with extra("report", "a report"):
        import plotly.graph_objects as go
    return go
