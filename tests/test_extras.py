"""Bounds and extras of pyproject.toml, and the one line for a package that is not installed."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.version import Version

from noisynets import cli
from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.diagnose.neurobench import complexity

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DEVELOPERS = {"test", "dev", "zoo", "aihwkit"}
USERS = {
    "nengo": {"nengo"},
    "tonic": {"tonic"},
    "neurobench": {"neurobench"},
    "nir": {"nir"},
    "loggers": {"tensorboard", "wandb", "mlflow"},
    "report": {"plotly", "jinja2"},
    "lightning": {"lightning"},
    "distributed": {"dask", "distributed", "dask-jobqueue"},
    "docs": {"mkdocs-material", "mkdocstrings"},
}
BASE = {Requirement(text).name: Requirement(text) for text in PROJECT["dependencies"]}
IMPORTED = {
    "PIL": "pillow",
    "dask_jobqueue": "dask-jobqueue",
    "mkdocs": "mkdocs-material",
    "tensorboardX": "tensorboard",
}
"""Names of distributions, where they differ from those that are imported."""


def lowest(requirement: Requirement) -> Version:
    (bound,) = [s.version for s in requirement.specifier if s.operator == ">="]
    return Version(bound)


def in_full(name: str) -> set[str]:
    """All distributions that an extra installs beside the base, other extras of ours resolved."""
    found = set()
    for requirement in map(Requirement, EXTRAS[name]):
        if requirement.name == PROJECT["name"]:
            found |= {d for other in requirement.extras for d in in_full(other)}
        else:
            found.add(requirement.name)
    return found


def test_all_can_be_installed_where_a_package_of_an_extra_cannot() -> None:
    """Neither tonic nor neurobench has packages for Python 3.14."""
    left_out = {
        found.name
        for name in USERS
        for found in map(Requirement, EXTRAS[name])
        if found.marker is not None and not found.marker.evaluate({"python_version": "3.14"})
    }
    assert left_out == {"tonic", "neurobench"}
    for name in ("tonic", "neurobench"):
        (found,) = map(Requirement, EXTRAS[name])
        assert found.marker is not None and found.marker.evaluate({"python_version": "3.13"})


def test_bounds_of_python_torch_and_numpy() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert str(BASE["torch"].specifier) == "<2.14,>=2.8"
    assert lowest(BASE["numpy"]) == Version("2")
    named = {c.split()[-1] for c in PROJECT["classifiers"] if "Python :: 3." in c}
    assert named == {"3.11", "3.12", "3.13", "3.14"}
    assert Version(torch.__version__).base_version in BASE["torch"].specifier


def test_the_oldest_releases_are_those_of_the_bounds() -> None:
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    exact = {p.name: next(iter(p.specifier)).version for p in pins if p.name in BASE}
    assert {n: Version(v) for n, v in exact.items()} == {n: lowest(r) for n, r in BASE.items()}


def test_every_extra_is_there_and_every_requirement_has_a_lower_bound() -> None:
    assert EXTRAS.keys() == USERS.keys() | DEVELOPERS | {"all"}
    for name, packages in USERS.items():
        assert packages <= in_full(name)
    for requirement in (Requirement(text) for texts in EXTRAS.values() for text in texts):
        if requirement.name == PROJECT["name"]:
            assert requirement.extras <= EXTRAS.keys()
        else:
            assert lowest(requirement) > Version("0"), requirement


def test_getting_started_lists_every_extra() -> None:
    page = (ROOT / "docs" / "getting-started.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert EXTRAS.keys() <= {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}


def test_all_is_all_for_users() -> None:
    assert in_full("all") == {d for name in USERS for d in in_full(name)}


def imported(node: ast.AST) -> set[str]:
    """Top-level names that an import statement imports, without relative ones."""
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {(node.module or "").split(".")[0]}
    return set()


def guards(node: ast.AST) -> Iterator[str]:
    """Extras that a block names: `with extra("NAME", …)`, or an `except` with noisynets[NAME]."""
    if isinstance(node, ast.With):
        for call in (item.context_expr for item in node.items):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "extra":
                yield str(ast.literal_eval(call.args[0]))
    if isinstance(node, ast.Try):
        for handler in node.handlers:
            if "ImportError" in ast.unparse(handler.type or ast.Constant(None)):
                text = ast.unparse(handler)
                yield from (name for name in EXTRAS if f"noisynets[{name}]" in text)
                if not any(isinstance(n, ast.Raise) for n in ast.walk(handler)):
                    yield "none"


def unguarded(code: str, ours: tuple[str, ...] = ("noisynets", "noisynets_envs")) -> list[str]:
    """Imports of packages outside of the base that no extra guards, as 'line: package'."""
    found: list[str] = []

    def visit(node: ast.AST, inside: frozenset[str]) -> None:
        for name in imported(node) - sys.stdlib_module_names - {*ours}:
            distribution = IMPORTED.get(name, name)
            installs = {d for extra in inside & EXTRAS.keys() for d in in_full(extra)}
            if distribution not in BASE.keys() | installs and "none" not in inside:
                found.append(f"{getattr(node, 'lineno', 0)}: {name}")
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inside | {*guards(node)})

    visit(ast.parse(code), frozenset())
    return found


def test_every_import_is_of_the_base_or_names_its_extra() -> None:
    files = [*(ROOT / "noisynets").rglob("*.py"), *(ROOT / "envs").rglob("*.py")]
    found = [f"{file.relative_to(ROOT)}:{x}" for file in files for x in unguarded(file.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("import os, torch\nfrom .x import y\nfrom PIL import Image", 0),
        ("import plotly", 1),
        (
            "with extra('report', 'report'):\n    from plotly.io import to_html\n    import jinja2",
            0,
        ),
        ("with extra('tonic', 'report'):\n    import plotly", 1),
        ("with extra('absent', 'report'):\n    import plotly", 1),
        ("try:\n    import mlflow\nexcept ImportError as e:\n    raise E('noisynets[loggers]')", 0),
        ("try:\n    import mlflow\nexcept ImportError as e:\n    raise E('mlflow is missing')", 1),
        ("try:\n    import torchvision\nexcept ImportError:\n    f()", 0),
        ("if TYPE_CHECKING:\n    import lightning", 0),
    ],
)
def test_unguarded_imports_are_found(code: str, count: int) -> None:
    assert len(unguarded(code)) == count


@pytest.mark.parametrize(
    ("package", "args", "name"),
    [
        ("tonic", ["train", "tonic:SHD"], "tonic"),
        ("nengo", ["train", "--system", "nengo-box"], "nengo"),
    ],
)
def test_a_missing_package_is_one_line(
    package: str,
    args: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as end:
        cli.main([*args, "--out", str(tmp_path / "run")])
    (line,) = capfd.readouterr().err.splitlines()
    assert end.value.code == 2 and f"python -m pip install 'noisynets[{name}]'" in line
    assert not (tmp_path / "run").exists()


def test_missing_neurobench_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurobench", None)
    with pytest.raises(InputError, match=r"^neurobench needs.*noisynets\[neurobench\]'$"):
        complexity(torch.nn.Linear(2, 2), [])


@pytest.mark.parametrize("error", [ImportError("a\nb"), ModuleNotFoundError("a b")])
def test_errors_of_an_import_are_one_line_and_others_pass(error: ImportError) -> None:
    with pytest.raises(InputError, match=r"^this needs more packages \(a b\): [^\n]*\[tonic\]'$"):
        with extra("tonic", "this"):
            raise error
    with pytest.raises(KeyError), extra("tonic", "this"):
        raise KeyError("a")
