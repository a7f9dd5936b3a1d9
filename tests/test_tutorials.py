"""The tutorials: what they promise, what is stored in them, and that they run."""

import json
import os
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
LIMIT = 300
"""Seconds of processors that all of them may take together; on an idle machine, as many seconds."""
each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def cells(path: Path, kind: str) -> list[dict]:
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def test_there_are_seven() -> None:
    assert [path.name[0] for path in TUTORIALS] == list("1234567")


@each
def test_each_begins_with_what_the_reader_will_be_able_to_do(path: Path) -> None:
    first = text(cells(path, "markdown")[0])
    assert re.match(r"# .+\n\n\*\*You will be able to\*\* ", first)


@each
def test_outputs_are_stored_small_and_without_paths_of_a_machine(path: Path) -> None:
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert not re.search(r"/(?:root|home|tmp|work|Users)\b", json.dumps(outputs))
    assert path.stat().st_size < 200_000


@each
def test_links_of_tutorials_exist(path: Path) -> None:
    for cell in cells(path, "markdown"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text(cell)):
            assert (path.parent / target).exists(), target


def test_tutorials_run_and_draw_what_is_stored() -> None:
    """Every cell runs, and gives as many outputs of each kind; together within the limit."""
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name)
    spec = spec_from_file_location("execute", ROOT / ".ci" / "site" / "execute.py")
    assert spec is not None and spec.loader is not None
    execute = module_from_spec(spec)
    spec.loader.exec_module(execute)
    begun = used()
    for path in TUTORIALS:
        ran = [c for c in execute.executed(path).cells if c["cell_type"] == "code"]
        for cell, stored in zip(ran, cells(path, "code"), strict=True):
            kinds = [output["output_type"] for output in cell["outputs"]]
            assert kinds == [output["output_type"] for output in stored["outputs"]], text(stored)
    assert used() - begun < LIMIT


def used() -> float:
    """Seconds that processes which have ended took of the processors."""
    times = os.times()
    return times.children_user + times.children_system
