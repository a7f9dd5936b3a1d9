"""The settings of a run: declaration, defaults that depend on other settings, and checks."""

from noisynets.core.settings import DTYPES
from noisynets.run.settings.optimisers import OPTIMISERS, Optimiser, Rates
from noisynets.run.settings.problems import unused
from noisynets.run.settings.resolve import resolve, task_of
from noisynets.run.settings.settings import SCHEDULES, Config, seeds

__all__ = [
    "DTYPES",
    "OPTIMISERS",
    "SCHEDULES",
    "Config",
    "Optimiser",
    "Rates",
    "resolve",
    "seeds",
    "task_of",
    "unused",
]
