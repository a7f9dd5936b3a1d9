"""How the time of a training step grows with width, depth, batch size, K and T."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from noisynets.bench.steps import ROUND, Step, training
from noisynets.run.checkpoint import write_atomically
from noisynets.run.settings import Config


@dataclass(frozen=True)
class Timed:
    """A rule whose steps are timed.

    Attributes:
        rule: name of the rule.
        colour: colour of its line.
        learns: True if it has feedback to learn, of which `growth` makes some steps beforehand.
        pairs: True if it makes pairs, so that its cost depends on the resamples K.
    """

    rule: str
    colour: str
    learns: bool = False
    pairs: bool = True


REFERENCE = Timed("anp", "tab:blue")
RULES = (REFERENCE, Timed("mirrored", "tab:red", learns=True), Timed("bp", "tab:grey", pairs=False))
INPUTS, OUTPUTS = 784, 10


@dataclass(frozen=True)
class Axis:
    """One size that is varied while the others are constant.

    Attributes:
        name: name of the size.
        places: its values.
        configs: settings for each value.
        of_pairs: True if the size exists only for rules that make pairs.
    """

    name: str
    places: tuple[int, ...]
    configs: tuple[Config, ...]
    of_pairs: bool = False


@dataclass(frozen=True)
class Cost:
    """The time of a training step.

    Attributes:
        axis: name of the size that was varied.
        place: its value.
        rule: name of the rule.
        seconds: median time of a step.
        products: multiply-adds in the matrix products of a step of ANP.
    """

    axis: str
    place: int
    rule: str
    seconds: float
    products: float


def axes(quick: bool = False) -> list[Axis]:
    """Return the sizes to vary; with `quick`, only the two smallest values of each."""
    perceptron = Config(system="mlp", hidden=(256, 256), batch_size=200, device="cpu")
    spiking = Config(system="lif", hidden=(256,), batch_size=100, device="cpu")

    def axis(
        name: str, places: tuple[int, ...], of: Callable[[int], Config], of_pairs: bool = False
    ) -> Axis:
        chosen = places[:2] if quick else places
        return Axis(name, chosen, tuple(map(of, chosen)), of_pairs)

    return [
        axis("width", (64, 128, 256, 512, 1024), lambda n: replace(perceptron, hidden=(n,) * 3)),
        axis("depth", (1, 2, 4, 8), lambda n: replace(perceptron, hidden=(256,) * n)),
        axis("batch", (25, 50, 100, 200, 400, 800), lambda n: replace(perceptron, batch_size=n)),
        axis("resamples K", (1, 2, 4, 8, 16), lambda n: replace(perceptron, resamples=n), True),
        axis("steps T", (5, 10, 20, 40, 80), lambda n: replace(spiking, steps=n)),
    ]


def products(config: Config) -> float:
    """Return the multiply-adds in the matrix products of a step of ANP.

    These are the products of the 1 + K passes, of which the first layer's is shared by all, and
    those of the gradients.

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
        quick: take the two smallest values of each size only.
        turns: number of timings, of four steps each, whose median is taken.
        taught: untimed training steps beforehand, for rules that learn their feedback.

    >>> next(growth(quick=True, turns=1, taught=1)).rule in ("anp", "bp", "mirrored")
    True
    """
    for axis in axes(quick):
        for place, config in zip(axis.places, axis.configs, strict=True):
            for own in (timed for timed in RULES if timed.pairs or not axis.of_pairs):
                settings = replace(config, rule=own.rule)
                step = training(settings, taught if own.learns else 2)
                yield Cost(axis.name, place, own.rule, seconds(step, turns), products(settings))


def seconds(step: Step, turns: int) -> float:
    """Return the median time of a step over some timings, in seconds.

    Args:
        step: `ROUND` training steps in one call.
        turns: number of timings.
    """
    found = []
    for _ in range(turns):
        start = time.perf_counter()
        step()
        found.append((time.perf_counter() - start) / ROUND)
    return median(found)


def draw_growth(path: Path, costs: Sequence[Cost]) -> None:
    """Draw the time of a step against every size, as a PNG.

    Times are relative to ANP's at the largest size; the dashed line is the number of multiply-adds
    of ANP, relative to that at the largest size.

    Args:
        path: path of the picture.
        costs: from `growth`.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(cost.axis for cost in costs))
    figure = Figure(figsize=(3.4 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        own = [cost for cost in costs if cost.axis == name]
        first = [cost for cost in own if cost.rule == REFERENCE.rule]
        for timed in RULES:
            line = [(c.place, c.seconds / first[-1].seconds) for c in own if c.rule == timed.rule]
            if line:
                panel.plot(*zip(*line, strict=True), ".-", color=timed.colour, label=timed.rule)
        places = [cost.place for cost in first]
        arithmetic = [cost.products / first[-1].products for cost in first]
        label = f"multiply-adds of {REFERENCE.rule}"
        panel.plot(places, arithmetic, "--", color="black", lw=1, label=label)
        panel.set(xlabel=name, xscale="log", yscale="log")
        panel.set_xticks(places, [f"{place:g}" for place in places])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"time of a step ({REFERENCE.rule}, largest = 1)")
    panels[0].legend(fontsize="small")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomically(path, image.getvalue())
