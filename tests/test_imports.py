"""Imports go one way."""

import ast
from pathlib import Path

import noisynets

PACKAGE = Path(noisynets.__file__).parent
ORDER = [
    {"errors", "allocator"},
    {"types"},
    {"noise", "losses", "outer", "trial"},
    {"probe"},
    {"rules"},
    {"decorrelation"},
    {"weight_space"},
    {"check"},
    {"feedback"},
    {"estimate", "blackbox", "roll_out"},
    {"roll_out_feedback"},
    {"methods"},
    {"devices", "units", "spiking", "data"},
    {"models", "transfer", "complexity", "policy"},
    {"systems"},
    {"config"},
    {"checkpoint"},
    {"run_folder", "report", "session"},
    {"evaluate"},
    {"train"},
    {"diagnose"},
    {"bench"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
ONLY = {  # what systems and data may know
    "devices": {"errors", "types", "noise", "devices"},
    "units": {"errors", "types", "noise"},
    "spiking": {"errors", "types", "noise", "outer", "trial", "probe", "spiking"},
    "blackbox": {"errors", "types", "probe", "blackbox"},
    "models": {"errors", "types", "noise", "devices", "units", "spiking", "blackbox", "models"},
    "data": {"errors", "types", "losses", "data"},
    "policy": {"errors", "types", "data", "policy"},
}


def imports() -> list[tuple[str, str, str]]:
    """(file, its room, the room it imports from)."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts == ("__init__",):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("noisynets"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name.startswith("noisynets")]
            found += [(str(file), parts[0], name.split(".")[1]) for name in names]
    return found


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.parent.name for p in PACKAGE.glob("*/__init__.py")
    }
    assert rooms - {"__init__"} == LEVEL.keys()


def test_imports_go_one_way() -> None:
    found = imports()
    assert len(found) > 50
    for file, room, other in found:
        assert room == other or LEVEL[other] < LEVEL[room], f"{file} imports {other}"
        assert room not in ONLY or other in ONLY[room], f"{file} imports {other}"
