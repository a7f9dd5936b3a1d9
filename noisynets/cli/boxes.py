"""Looking at black boxes before they are trained."""

from __future__ import annotations

import shlex
import sys

import tyro

from noisynets.core.errors import InputError
from noisynets.run.session import settings
from noisynets.run.settings import Config, resolve
from noisynets.systems.blackbox import BlackBox, Box, ProcessBox, examine, failed
from noisynets.systems.catalogue import BOXES, SYSTEMS


def check_box(box: tyro.conf.Positional[str], rows: int = 200, timeout: float = 60.0) -> None:
    """Ask a box whether it keeps the contract of docs/blackbox.md, and has noise to learn from.

    Args:
        box: command that answers through pipes, or a box of this package, as numpy-box.
        rows: of random inputs in every trial.
        timeout: seconds in which the command has to answer.
    """
    if rows < 2 or not timeout > 0:
        raise InputError("--rows must be at least 2, --timeout positive")
    findings = []
    for finding in examine(_box(box, timeout), rows):
        findings.append(finding)
        print(f"{finding.grade:6s}  {finding.message}")
    if failed(findings):
        print(f"noisynets: {box}: cannot be trained as it is", file=sys.stderr)
        sys.exit(2)


def _box(name: str, timeout: float) -> Box:
    if name not in BOXES:
        return ProcessBox(shlex.split(name), timeout=timeout)
    system = SYSTEMS[name].build((1, 28, 28), 10, settings(resolve(Config(system=name))))
    assert isinstance(system, BlackBox)
    return system.box
