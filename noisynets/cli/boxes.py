"""Checking black boxes before they are trained."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from noisynets.core.settings import REQUIRED, setting
from noisynets.run.settings import Config, resolve
from noisynets.systems.blackbox import BlackBox, Box, ProcessBox, examine, failed
from noisynets.systems.blackbox.process import TIMEOUT, words
from noisynets.systems.catalogue import BOXES, SYSTEMS
from noisynets.systems.settings import BoxSettings


@dataclass(frozen=True, kw_only=True)
class CheckArguments(BoxSettings):
    """Arguments of `noisynets check-box`."""

    box: str = setting(
        REQUIRED,
        "Command that serves a box through pipes, or a box of this package, as numpy-box.",
        metavar="BOX",
        positional=True,
    )
    rows: int = setting(200, "Random inputs in every trial.", at_least=2)


def check_box(arguments: CheckArguments) -> None:
    """Check that a box keeps the contract (docs/how-to/blackbox.md), and has noise."""
    box, rows, timeout = arguments.box, arguments.rows, arguments.box_timeout
    findings = []
    for finding in examine(_box(box, timeout), rows):
        findings.append(finding)
        print(f"{finding.grade:6s}  {finding.message}")
    if failed(findings):
        print(f"noisynets: {box}: cannot be trained as it is", file=sys.stderr)
        sys.exit(2)


def _box(name: str, timeout: float | None) -> Box:
    if name not in BOXES:
        return ProcessBox(words(name), timeout=timeout or TIMEOUT)
    system = SYSTEMS[name].build((1, 28, 28), 10, resolve(Config(system=name)))
    assert isinstance(system, BlackBox)
    return system.box
