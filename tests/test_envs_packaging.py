"""Contents of an installation, and independence of the environments from noisynets."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import gymnasium

import noisynets_envs
from noisynets_envs.registry import specs

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
POINT = ("noisynets", "noisynets_envs.registry:register")
ORDER = [
    {"types"},
    {"checks", "render"},
    {"channel"},
    {"noise", "delay", "sensor", "path"},
    {"encoding", "wrappers", "physics"},
    {"vector", "classic", "arm", "chip"},
    {"parameters", "variants"},
    {"registry"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_package_is_installed() -> None:
    folders = {p.parent for p in (ROOT / "noisynets").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == names | {"noisynets_envs"}


def test_the_entry_point_registers_once_and_again() -> None:
    register = EntryPoint(*POINT, group="gymnasium.envs").load()
    register()
    register()
    assert specs().keys() <= gymnasium.registry.keys()


def test_gymnasium_imports_the_package_which_never_imports_noisynets() -> None:
    run(
        "import sys, gymnasium as g\n"
        "env = g.make('noisynets_envs:noisynets/NoisyCartPole-v0', sigma=0.2)\n"
        "env.reset(seed=0)\n"
        "g.make_vec('noisynets_envs:noisynets/Chip-v0', num_envs=3).reset(seed=0)\n"
        "assert not {'noisynets', 'torch', 'scipy'} & sys.modules.keys()\n"
    )


def test_imports_go_one_way() -> None:
    files = sorted(Path(noisynets_envs.__file__).parent.glob("*.py"))
    assert {file.stem for file in files} == LEVEL.keys() | {"__init__"}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and file.stem != "__init__":
                if node.level:
                    assert LEVEL[node.module] < LEVEL[file.stem], (file.stem, node.module)
                else:
                    assert not node.module.startswith("noisynets"), file.stem
