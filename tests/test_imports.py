"""Imports run one way: between the rooms, and between the parts of the core."""

import ast
from pathlib import Path

import noisynets

PACKAGE = Path(noisynets.__file__).parent
ROOMS = [
    {"core"},
    {"rules", "systems", "tasks"},
    {"estimators"},
    {"run"},
    {"diagnose", "bench"},
    {"cli"},
]
"""Each room may import from the rooms before it, and from itself."""

CORE = [
    {"pages"},
    {"errors", "notes", "dependence", "freezing", "modes", "trees"},
    {"reading", "batch", "extras"},
    {"arrays"},
    {"types"},
    {"registry", "seeds", "speed", "tables"},
    {"settings"},
    {"values"},
    {"noise", "losses", "outer", "trial"},
    {"nodes", "drawing", "statistics", "coupled"},
    {"graph"},
    {"own_values"},
    {"paired"},
    {"replayed", "links"},
    {"record"},
    {"recorders"},
    {"probe"},
    {"decorrelation"},
    {"check", "verify"},
]


def level(order: list[set[str]]) -> dict[str, int]:
    return {name: place for place, names in enumerate(order) for name in names}


def imports() -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(file, its place in the package, the place that it imports from)."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts in (("__init__",), ("__main__",)):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("noisynets"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name.startswith("noisynets")]
            found += [(str(file), parts, tuple(name.split(".")[1:])) for name in names]
    return found


def test_every_room_has_its_place_in_the_order() -> None:
    others = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
    rooms = {p.name for p in PACKAGE.iterdir()} - others
    assert rooms == level(ROOMS).keys()
    assert len(rooms) <= 9


def test_imports_between_rooms_go_one_way() -> None:
    place, found = level(ROOMS), imports()
    assert len(found) > 50
    for file, parts, other in found:
        assert parts[0] == other[0] or place[other[0]] < place[parts[0]], f"{file}: {other}"


def test_imports_within_the_core_go_one_way() -> None:
    place = level(CORE)
    for file, parts, other in imports():
        if parts[0] == "core" and parts[1] != "__init__":
            assert other[0] == "core", f"{file} imports {other}"
            same = parts[1] == other[1]
            assert same or place[other[1]] < place[parts[1]], f"{file} imports {other}"
