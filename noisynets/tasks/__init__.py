"""Tasks: data sets with their loss and score (`data`), and environments to act in (`environments`).

May import `core` only. Gymnasium, matplotlib, pooch, Pillow, SciPy and tonic are imported inside
the functions that use them, so that importing this package needs PyTorch and NumPy alone.
"""

from noisynets.tasks.data import TASKS, Examples, Task, find_task

__all__ = ["TASKS", "Examples", "Task", "find_task"]
