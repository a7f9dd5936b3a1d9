"""Supervised tasks: a data set with its loss, score and splits; one file per data set."""

from collections.abc import Iterable
from pathlib import Path

from noisynets.core.errors import InputError, unknown
from noisynets.core.pages import Page
from noisynets.core.registry import Registry
from noisynets.tasks.data import array_files, events, folders, own, sarcos, text, tonic_sets
from noisynets.tasks.data.augment import AUGMENTATIONS
from noisynets.tasks.data.cifar import CIFAR10, CIFAR100
from noisynets.tasks.data.fashion_mnist import FASHION_MNIST
from noisynets.tasks.data.mackey_glass import MACKEY_GLASS
from noisynets.tasks.data.measure import ACCURACY, NMSE, RETURN, Measure
from noisynets.tasks.data.mnist import MNIST
from noisynets.tasks.data.own import located, short
from noisynets.tasks.data.randman import RANDMAN
from noisynets.tasks.data.task import Examples, Inputs, Task
from noisynets.tasks.data.text import TEXT, TINY_SHAKESPEARE
from noisynets.tasks.data.tiny_imagenet import TINY_IMAGENET
from noisynets.tasks.data.yin_yang import YIN_YANG

TASKS: Registry[Task] = Registry(
    "task",
    (
        MNIST,
        FASHION_MNIST,
        CIFAR10,
        CIFAR100,
        TINY_IMAGENET,
        YIN_YANG,
        RANDMAN,
        MACKEY_GLASS,
        TEXT,
        TINY_SHAKESPEARE,
    ),
)
FROM_FILES = {
    "sarcos": "21 states of a robot arm → 7 torques (nmse), from the files given by --data-dir",
    "events": "events of a sensor, from the .npz file given by --data-dir",
    "folder:PATH": "pictures by class, in PATH/CLASS/ or PATH/train/CLASS/ (and val/, test/)",
    "arrays:FILE": "arrays x and y of an .npz file, or a .csv file with the target in a column",
    "tonic:NAME": "an event data set of the tonic package (extra [tonic])",
}


def find_task(
    name: str, folder: Path | None = None, others: Iterable[str] = (), size: int = 0
) -> Task:
    """Return a task by its name.

    Args:
        name: a key of `TASKS`, 'sarcos', 'events', 'tonic:' followed by the name of a data set, or
            'folder:' or 'arrays:' followed by a path.
        folder: folder of the data files; for 'events' and 'sarcos' also a single .npz file, for
            'text' a file in UTF-8.
            None: the files of the package, or the cache. Of 'folder:' and 'arrays:', where the
            files are now, if they have been moved.
        others: further valid task names, listed in the error for an unknown name.
        size: pixels of a side to which the pictures of a folder are resized; 0: they are not.

    Returns:
        The task. For 'sarcos', 'events', 'tonic:…', 'folder:…', 'arrays:…', and 'text' with a file,
        its sizes are read from the files.

    Raises:
        InputError: if the name is unknown or the files cannot be used.

    >>> find_task("yinyang").classes
    3
    """
    if name == text.NAME and folder is not None:
        return text.task(folder)
    if name in TASKS:
        return TASKS[name]
    if name.startswith(own.FOLDER):
        return folders.task(folder or own.path_of(name), size)
    if name.startswith(own.ARRAYS):
        return array_files.task(folder or own.path_of(name))
    if name == "events":
        if folder is None:
            raise InputError("task 'events' reads a file: give --data-dir FILE.npz")
        return events.task(folder)
    if name == "sarcos":
        return sarcos.task(folder)
    if name.startswith(tonic_sets.PREFIX):
        return tonic_sets.task(name, folder)
    raise unknown("task", name, [*TASKS, *FROM_FILES, *others], page=Page.DATA)


__all__ = [
    "ACCURACY",
    "AUGMENTATIONS",
    "FROM_FILES",
    "NMSE",
    "RETURN",
    "TASKS",
    "Examples",
    "Inputs",
    "Measure",
    "Task",
    "find_task",
    "located",
    "short",
]
