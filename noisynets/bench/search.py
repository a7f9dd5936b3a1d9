"""Choosing settings on validation, with as many candidates for one rule as for another.

A compass search: from the settings it starts with, one setting after the other is multiplied and
divided by its factor, and followed where that helps. Once no setting helps any more, the factors
become their square roots. While everything diverges, the rate falls by its factor squared. A rule
with fewer settings spends its candidates on finer steps, down to a tenth.

A case may name its learning rates instead: then these are the candidates.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from noisynets.estimators.methods import METHODS
from noisynets.run.settings import Config

FACTORS = {"lr": 3.0, "sigma": 10.0, "decor_lr": 10.0}
"""First factor on each setting that is searched."""


@dataclass(frozen=True)
class Point:
    """Settings of a candidate; None: the rule has no such setting.

    >>> Point(3e-3, None, None).times("lr", 3)
    Point(lr=0.009, sigma=None, decor_lr=None)
    """

    lr: float
    sigma: float | None
    decor_lr: float | None

    def times(self, name: str, factor: float) -> Point:
        """Multiply one setting, rounded to two digits."""
        return replace(self, **{name: float(f"{getattr(self, name) * factor:.2g}")})

    def of(self, config: Config) -> Config:
        """Put the settings into others."""
        decor_lr = 0.0 if self.decor_lr is None else self.decor_lr
        return replace(config, lr=self.lr, sigma=self.sigma, decor_lr=decor_lr)


def start(config: Config) -> Point:
    """Return the point at which the search of resolved settings starts."""
    assert config.lr is not None, "the settings are not resolved"
    return Point(config.lr, config.injected, config.decor_lr or None)


def searched(config: Config) -> list[str]:
    """Name the settings that make a difference to a rule."""
    names = ["lr", "decor_lr"] if config.decor_lr else ["lr"]
    injects = config.injected is not None and METHODS[config.rule].uses_noise
    return [*names, "sigma"] if injects else names


Scores = dict[Point, float]
Search = Generator[list[Point], Scores, None]
"""Yields points that can be tried side by side, and is sent their scores (−∞: diverged)."""


def grid(first: Point, rates: Sequence[float]) -> Search:
    """Try the given learning rates, and nothing else.

    >>> [point.lr for point in next(grid(Point(1.0, None, None), [0.1, 0.3]))]
    [0.1, 0.3]
    """
    yield [replace(first, lr=rate) for rate in rates]


def compass(first: Point, names: list[str], candidates: int) -> Search:
    """Search for the highest score among a number of candidates.

    Args:
        first: where to start.
        names: of the settings that are searched.
        candidates: that are tried in all, at most.

    >>> search = compass(Point(1.0, None, None), ["lr"], candidates=6)
    >>> [point.lr for point in next(search)]
    [1.0, 0.33, 3.0]
    """
    seen: Scores = {}
    factors = {name: FACTORS[name] for name in names}

    def fresh(points: list[Point]) -> list[Point]:
        new = [p for p in dict.fromkeys(points) if p not in seen]
        return new[: candidates - len(seen)]

    def best() -> Point:
        return max(seen, key=lambda point: seen[point])

    ask = fresh([first, *(first.times("lr", f) for f in (1 / factors["lr"], factors["lr"]))])
    seen |= yield ask
    while len(seen) < candidates and min(factors.values()) > 1.1:
        while len(seen) < candidates and max(seen.values()) == -math.inf:
            lowest = min(seen, key=lambda point: point.lr)
            seen |= yield fresh([lowest.times("lr", 1 / factors["lr"] ** 2)])
        for name in names:
            for direction in (-1, 1):
                while len(seen) < candidates:
                    before = best()
                    ask = fresh([before.times(name, factors[name] ** direction)])
                    if not ask:
                        break
                    seen |= yield ask
                    if best() == before:
                        break
        factors = {name: math.sqrt(factor) for name, factor in factors.items()}
