"""The settings of a run: what a user may set, what is filled in, and what is refused."""

from noisynets.run.settings.problems import unheeded
from noisynets.run.settings.resolve import resolve, seeds, task_of
from noisynets.run.settings.settings import DTYPES, SCHEDULES, Config

__all__ = ["DTYPES", "SCHEDULES", "Config", "resolve", "seeds", "task_of", "unheeded"]
