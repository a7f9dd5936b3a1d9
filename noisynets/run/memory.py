"""A lower bound of the memory that a run needs, by which sizes are refused before they are made."""

from __future__ import annotations

from itertools import pairwise

from noisynets.core.errors import InputError
from noisynets.core.reading import memory
from noisynets.estimators.methods import METHODS
from noisynets.run.settings import DTYPES, Config
from noisynets.systems.catalogue import SYSTEMS


def check_memory(config: Config, rows: int = 0) -> None:
    """Refuse a run that cannot fit this machine's memory.

    Counted are the weights between hidden layers, with gradients, and the activities of hidden
    layers in one training step; a run needs more than that.

    Args:
        config: resolved settings.
        rows: training examples; 0: they are not known yet.

    Raises:
        InputError: one line with what is needed and what there is.

    >>> from noisynets.run.settings import resolve
    >>> check_memory(resolve(Config(system="mlp", hidden=(10**9, 10**9))))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: --hidden 1000000000 1000000000: needs at least 8e+09 GB of ...
    """
    if config.device != "cpu":
        return
    size, there = DTYPES[config.dtype].itemsize, memory()
    widths, flags = _widths(config)
    weights = 2 * size * sum(n * m for n, m in pairwise(widths))
    passes = 1 if METHODS[config.rule].perturbs == "nothing" else 1 + config.resamples
    batch = min(config.batch_size, rows)
    positions = config.context if SYSTEMS[config.system].text else 1
    activities = size * passes * batch * positions * sum(widths)
    needed = weights + activities
    if needed > there:
        also = f", --batch-size {batch}, --resamples {config.resamples}" if rows else ""
        raise InputError(
            f"{flags}{also}: needs at least {needed / 1e9:.3g} GB of memory; this "
            f"machine has {there / 1e9:.3g}"
        )


def _widths(config: Config) -> tuple[tuple[int, ...], str]:
    """Return the widths of layers, one behind the other, and the options that set them."""
    if "layers" in SYSTEMS[config.system].settings:
        flags = f"--layers {config.layers}, --width {config.width}"
        return (config.width, 4 * config.width) * config.layers, flags
    return config.widths, f"--hidden {' '.join(map(str, config.widths))}"
