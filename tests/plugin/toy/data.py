"""A data set: which of two numbers is greater."""

import torch

from noisynets import register
from noisynets.tasks.data import Examples, Task


def load(part, folder=None):
    generator = torch.Generator().manual_seed(("train", "test").index(part))
    x = torch.randn(200, 2, generator=generator)
    return Examples(x, x.argmax(1))


def plug_in():
    summary = "the greater of two numbers"
    register("task", Task("toy-task", summary, (2,), classes=2, load=load, validation=50))
