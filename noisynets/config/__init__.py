"""The settings of a run: what a user may set, what is filled in, and what is refused."""

from noisynets.config.problems import unheeded
from noisynets.config.resolve import resolve, seeds, task_of
from noisynets.config.settings import DTYPES, SCHEDULES, Config

__all__ = ["DTYPES", "SCHEDULES", "Config", "resolve", "seeds", "task_of", "unheeded"]
