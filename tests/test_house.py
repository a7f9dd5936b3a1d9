"""The house stays readable: short functions and classes, and a short way through the code."""

import ast
from pathlib import Path

import pytest
import walk

import noisynets

PACKAGE = Path(noisynets.__file__).parent
FUNCTION, CLASS = 60, 150
"""Lines, docstrings included."""


@pytest.mark.parametrize("room", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_functions_and_classes_are_short(room: str) -> None:
    long = []
    for file in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > (CLASS if isinstance(node, ast.ClassDef) else FUNCTION):
                    long.append(f"{file.name}: {node.name} has {lines} lines")
    assert not long, "\n".join(long)


def test_no_function_refers_to_itself_from_inside_another() -> None:
    """Such a cycle keeps what the function has seen, tensors too, until Python looks for cycles."""
    found = []
    for path in Path(noisynets.__file__).parent.rglob("*.py"):
        for outer in ast.walk(ast.parse(path.read_text())):
            if not isinstance(outer, ast.FunctionDef):
                continue
            for inner in (n for n in ast.walk(outer) if isinstance(n, ast.FunctionDef)):
                names = {n.id for n in ast.walk(inner) if isinstance(n, ast.Name)}
                if inner is not outer and inner.name in names:
                    found.append(f"{path.name}: {inner.name}")
    assert not found


@pytest.mark.parametrize("case", walk.CASES)
def test_the_walk_is_shorter_than_before(case: str) -> None:
    """Every count is below that of version 0.1, and switches with mirrors are a third fewer."""
    now, before = walk.counts(walk.walk(case)), walk.BEFORE[case]
    assert all(n < b for n, b in zip(now, before, strict=True)), (now, before)
    assert case == "anp" or now[3] <= before[3] * 2 / 3


def test_the_table_in_the_docs_is_that_of_the_walk() -> None:
    page = (Path(__file__).parent.parent / "docs" / "architecture.md").read_text()
    assert walk.table() in page
