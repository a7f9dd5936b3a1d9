"""How the cost of a step grows: with width, depth, batch, resamples and time."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from noisynets.bench.speed import ROUND, Step, training
from noisynets.run.checkpoint import write_atomically
from noisynets.run.settings import Config

RULES = ("anp", "mirrored", "bp")
INPUTS, OUTPUTS = 784, 10


@dataclass(frozen=True)
class Axis:
    """One size that grows, while the others stay.

    Attributes:
        name: of the size.
        places: its values.
        configs: one per value.
    """

    name: str
    places: tuple[int, ...]
    configs: tuple[Config, ...]


@dataclass(frozen=True)
class Cost:
    """What a step cost.

    Attributes:
        axis: name of the size that grew.
        place: its value.
        rule: as `--rule` names it.
        seconds: median of some steps.
        products: multiply-adds of the products in a step of ANP.
    """

    axis: str
    place: int
    rule: str
    seconds: float
    products: float


def axes(quick: bool = False) -> list[Axis]:
    """Return the sizes that grow; small ones only show that everything runs."""
    perceptron = Config(system="mlp", hidden=(256, 256), batch_size=200, device="cpu")
    spiking = Config(system="lif", hidden=(256,), batch_size=100, device="cpu")

    def axis(name: str, places: tuple[int, ...], of: Callable[[int], Config]) -> Axis:
        chosen = places[:2] if quick else places
        return Axis(name, chosen, tuple(map(of, chosen)))

    return [
        axis("width", (64, 128, 256, 512, 1024), lambda n: replace(perceptron, hidden=(n,) * 3)),
        axis("depth", (1, 2, 4, 8), lambda n: replace(perceptron, hidden=(256,) * n)),
        axis("batch", (25, 50, 100, 200, 400, 800), lambda n: replace(perceptron, batch_size=n)),
        axis("resamples K", (1, 2, 4, 8, 16), lambda n: replace(perceptron, resamples=n)),
        axis("steps T", (5, 10, 20, 40, 80), lambda n: replace(spiking, steps=n)),
    ]


def products(config: Config) -> float:
    """Return the multiply-adds of ANP's products: passes, the first layer's shared, and gradients.

    >>> products(Config(hidden=(10,), batch_size=2)) == 2 * (2 * 784 * 10 + 3 * 10 * 10)
    True
    """
    widths = (INPUTS, *(config.hidden or ()), OUTPUTS)
    pairs = zip(widths, widths[1:], strict=False)
    passes = [1, *[1 + config.resamples] * len(config.hidden or ())]
    each = [(p + 1) * n * m for p, (n, m) in zip(passes, pairs, strict=True)]
    return float(config.batch_size * sum(each) * (config.steps or 1))


def growth(quick: bool = False, turns: int = 5, taught: int = 204) -> Iterator[Cost]:
    """Time the steps of every rule, axis by axis.

    Args:
        quick: take small sizes, only once.
        turns: of which the median is taken, four steps each.
        taught: steps of feedback that are done before.

    >>> sorted({cost.rule for cost in growth(quick=True, turns=1, taught=1)})
    ['anp', 'bp', 'mirrored']
    """
    for axis in axes(quick):
        for place, config in zip(axis.places, axis.configs, strict=True):
            for rule in RULES:
                if rule == "bp" and axis.name.startswith("resamples"):
                    continue
                own = replace(config, rule=rule)
                step = training(own, taught if rule == "mirrored" else 2)
                yield Cost(axis.name, place, rule, timed(step, turns), products(own))


def timed(step: Step, turns: int) -> float:
    """Return the median of some turns, in seconds per step."""
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        step()
        found.append((time.perf_counter() - start) / ROUND)
    return median(found)


def draw_growth(path: Path, costs: Sequence[Cost]) -> None:
    """Draw costs relative to ANP's at the largest size, and its arithmetic likewise, dashed."""
    names = list(dict.fromkeys(cost.axis for cost in costs))
    figure = Figure(figsize=(3.4 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        own = [cost for cost in costs if cost.axis == name]
        anp = [cost for cost in own if cost.rule == "anp"]
        for rule, colour in zip(RULES, ("tab:blue", "tab:red", "tab:grey"), strict=True):
            line = [(c.place, c.seconds / anp[-1].seconds) for c in own if c.rule == rule]
            if line:
                panel.plot(*zip(*line, strict=True), ".-", color=colour, label=rule)
        places = [cost.place for cost in anp]
        arithmetic = [cost.products / anp[-1].products for cost in anp]
        panel.plot(places, arithmetic, "--", color="black", lw=1, label="products of anp")
        panel.set(xlabel=name, xscale="log", yscale="log")
        panel.set_xticks(places, [f"{place:g}" for place in places])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("time of a step (anp, largest = 1)")
    panels[0].legend(fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, image.getvalue())
