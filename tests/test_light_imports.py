"""`import noisynets` imports PyTorch and nothing else that is slow to import."""

import ast
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import noisynets

HEAVY = (
    "PIL",
    "dask",
    "distributed",
    "gymnasium",
    "matplotlib",
    "nengo",
    "pandas",
    "plotly",
    "pooch",
    "requests",
    "scipy",
    "snntorch",
    "tyro",
)
"""Modules that may be imported only by the functions that use them."""
EVERYTHING = "from noisynets import *"
"""All public names: `import noisynets` alone imports none of them before they are used."""
MOST = 1.45
"""Time of importing all public names, relative to `import torch`; 1.3 to 1.42 on busy cores."""


def python(code: str) -> str:
    """Run code in a new interpreter, and return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cpu_seconds(code: str) -> float:
    """Processor time of code in a new interpreter; a busy machine changes it little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize(
    "imports",
    [
        "import noisynets",
        EVERYTHING,
        "import noisynets.systems.units, noisynets.systems.spiking, noisynets.systems.blackbox",
    ],
)
def test_nothing_heavy_is_imported(imports: str) -> None:
    found = python(f"{imports}\nimport sys; print(*(n for n in {HEAVY} if n in sys.modules))")
    assert found.split() == []


def test_the_systems_package_is_a_docstring() -> None:
    source = Path(noisynets.__file__).parent.joinpath("systems", "__init__.py").read_text()
    body = ast.parse(source).body
    assert len(body) == 1 and ast.get_docstring(ast.Module(body, [])) is not None


def test_importing_takes_hardly_longer_than_torch() -> None:
    """Medians of 3 to 9 interleaved runs, in processor time; more if the machine is busy."""
    torch, ours = [], []
    for _ in range(9):
        torch.append(cpu_seconds("import torch"))
        ours.append(cpu_seconds(EVERYTHING))
        if len(ours) >= 3 and statistics.median(ours) <= MOST * statistics.median(torch):
            return
    pytest.fail(f"all of noisynets: {min(ours):.2f} s at best, import torch: {min(torch):.2f} s")
