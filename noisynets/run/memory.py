"""A lower bound of the memory that a run needs, by which sizes are refused before they are made."""

from __future__ import annotations

from itertools import pairwise

from noisynets.core.errors import InputError
from noisynets.core.reading import memory
from noisynets.estimators.methods import METHODS
from noisynets.run.settings import DTYPES, Config


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
    weights = 2 * size * sum(n * m for n, m in pairwise(config.widths))
    passes = 1 if METHODS[config.rule].perturbs == "nothing" else 1 + config.resamples
    batch = min(config.batch_size, rows)
    activities = size * passes * batch * sum(config.widths)
    needed = weights + activities
    if needed > there:
        widths = " ".join(map(str, config.widths))
        also = f", --batch-size {batch}, --resamples {config.resamples}" if rows else ""
        raise InputError(
            f"--hidden {widths}{also}: needs at least {needed / 1e9:.3g} GB of memory; this "
            f"machine has {there / 1e9:.3g}"
        )
