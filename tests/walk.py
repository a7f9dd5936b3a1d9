"""The walk: which files and functions one training step visits.

    python tests/walk.py             # the table of docs/architecture.md
    python tests/walk.py mirrored    # the way of one case, file by file

For the second step of a two-layer network it counts the files of the package that are visited, the
functions (a comprehension counts as one), their calls, and the switches from file to file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType

import torch
from torch import nn

import noisynets
from noisynets import NodePerturbation, cross_entropy
from noisynets.systems.spiking import Leaky, Spiking

PACKAGE = os.path.realpath(os.path.dirname(noisynets.__file__))
BEFORE = {
    "anp": (9, 51, 79, 25),
    "mirrored": (13, 98, 171, 55),
    "mirrored, LIF, T = 5": (18, 130, 506, 199),
}
"""Of version 0.1."""

Call = tuple[str, str]
"""File and function."""


def perceptron() -> nn.Module:
    """A linear layer, a unit, and a linear layer."""
    return nn.Sequential(nn.Linear(8, 6), nn.LeakyReLU(0.2), nn.Linear(6, 3))


def spiking() -> nn.Module:
    """The same with spiking neurons, in trials of five steps."""
    return Spiking(nn.Sequential(nn.Linear(8, 6), Leaky(0.9), nn.Linear(6, 3)), steps=5)


CASES: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = {
    "anp": ("anp", perceptron, (4, 8)),
    "mirrored": ("mirrored", perceptron, (4, 8)),
    "mirrored, LIF, T = 5": ("mirrored", spiking, (4, 1, 8)),
}


def walk(case: str, step: int = 2) -> list[Call]:
    """Return all calls of functions of the package in one training step, in order."""
    rule, make, shape = CASES[case]
    torch.manual_seed(0)
    estimator = NodePerturbation(make(), cross_entropy, rule)
    x, y = torch.randn(shape), torch.tensor([0, 1, 2, 0])
    for _ in range(step - 1):
        estimator(x, y)
    return traced(lambda: estimator(x, y))


def traced(run: Callable[[], object]) -> list[Call]:
    """Return the calls of functions of the package while `run` runs."""
    calls: list[Call] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        file = os.path.realpath(frame.f_code.co_filename)
        if event == "call" and file.startswith(PACKAGE + os.sep):
            calls.append((os.path.relpath(file, PACKAGE), frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


def counts(calls: list[Call]) -> tuple[int, int, int, int]:
    """Return the numbers of files, functions, calls, and switches between files."""
    files = [file for file, _ in calls]
    switches = sum(one != other for one, other in zip(files, files[1:], strict=False))
    return len(set(files)), len(set(calls)), len(calls), switches


def table() -> str:
    """Return the table in Markdown, with the numbers of version 0.1 in brackets."""
    lines = ["| case, step 2 | files | functions | calls | switches |", "|---|---|---|---|---|"]
    for case in CASES:
        pairs = zip(counts(walk(case)), BEFORE[case], strict=True)
        lines.append(f"| {case} | {' | '.join(f'{now} ({was})' for now, was in pairs)} |")
    return "\n".join(lines)


def way(case: str) -> str:
    """Return the calls of a case, a line for each visit of a file."""
    lines: list[str] = []
    last = ""
    for file, function in walk(case):
        if file != last:
            lines.append(f"{file}:")
        lines[-1] += f" {function.rsplit('.', 1)[-1] if '<' not in function else '·'}"
        last = file
    return "\n".join(lines)


if __name__ == "__main__":
    print(way(sys.argv[1]) if len(sys.argv) > 1 else table())
