"""The picture of a suite on pulsed devices: test scores against writes per weight."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from noisynets.bench.pictures import colour, save, scale, scale_of_axis
from noisynets.bench.results import Group
from noisynets.bench.run import judged_by
from noisynets.core.captions import literal

MARKERS = "osD^vP*Xd<>"
"""Of updates, in the order in which they come."""


def draw_writes(path: Path, groups: Sequence[Group]) -> None:
    """Draw test scores against writes per weight, a panel for every system and pulsed device.

    A rule has a colour, an update a marker; error bars are standard deviations over seeds. Dashed
    lines are rules whose weights are written exactly, on the same system.

    Args:
        path: path of the PNG; nothing is drawn if no writes were counted.
        groups: runs by case and rule.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        if group.values("test") and any(group.writes):
            panels.setdefault(_device(group), []).append(group)
    if not panels:
        return
    shown = [group for own in panels.values() for group in own]
    rules = list(dict.fromkeys(group.rule for group in groups))
    updates = list(dict.fromkeys(str(group.config.update) for group in shown))
    figure = Figure(figsize=(8.5, 4.2 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, (device, own) in zip(rows, panels.items(), strict=True):
        for group in own:
            style = {"marker": MARKERS[updates.index(str(group.config.update)) % len(MARKERS)]}
            _point(axes, group, style | {"color": colour(rules.index(group.rule))})
        for group in (g for g in groups if not g.writes and _system(g) == _system(own[0])):
            _line(axes, group, colour(rules.index(group.rule)))
        name = scale(judged_by(own[0].config)[0])[0]
        axes.set(xlabel="writes per weight", xscale="log", ylabel=f"test {name}")
        axes.set(title=literal(", ".join(device)), yscale=scale_of_axis(name))
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small")
    save(figure, path)


def _point(axes: Any, group: Group, style: dict[str, Any]) -> None:
    """Draw the mean over seeds, with its spread in both directions."""
    factor = scale(judged_by(group.config)[0])[1]
    scores = [factor * value for value in group.values("test")]
    several = len(scores) > 1
    axes.errorbar(
        mean(group.writes),
        mean(scores),
        stdev(scores) if several else None,
        stdev(group.writes) if several else None,
        label=literal(f"{group.rule}, {group.config.update}"),
        capsize=2,
        linestyle="none",
        **style,
    )


def _line(axes: Any, group: Group, shade: Any) -> None:
    """Draw the mean over seeds of a rule that writes exactly."""
    values, factor = group.values("test"), scale(judged_by(group.config)[0])[1]
    if values:
        label = literal(f"{group.rule}, {group.case}")
        axes.axhline(factor * mean(values), color=shade, linestyle="--", lw=1, label=label)


def _system(group: Group) -> tuple[Any, ...]:
    """Return what has to be equal for scores to stand in one panel."""
    c = group.config
    return c.task, c.system, c.hidden, c.preset


def _device(group: Group) -> tuple[str, ...]:
    """Return the name of a panel: system, pulsed device, and what was changed in it."""
    c = group.config
    changes = {"states": c.write_states, "asymmetry": c.write_asymmetry}
    changed = [f"{name} {value:g}" for name, value in changes.items() if value is not None]
    return (c.system, str(c.writes), *changed)
