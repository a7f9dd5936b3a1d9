"""Tasks and their data, one data set per file."""

from noisynets.data.mnist import MNIST
from noisynets.data.task import Examples, Task

TASKS: dict[str, Task] = {task.name: task for task in (MNIST,)}

__all__ = ["TASKS", "Examples", "Task"]
