"""Private names stay inside their modules: in the tests, the examples and both packages.

A name is private if it starts with one underscore. A file may use the private names that it
defines itself; it may not import one, read or set one on an object of another module, or reach one
through a string, as in `getattr(x, "_name")` or `monkeypatch.setattr("package.module._name", …)`.
In the tests and examples this includes private names of other projects, except those in `ALLOWED`;
in the packages, which extend torch and snntorch, only names that belong to the packages count.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import noisynets
import noisynets_envs

TESTS = Path(__file__).parent
PACKAGES = [Path(noisynets.__file__).parent, Path(noisynets_envs.__file__).parent]
OUTSIDE = [*sorted(TESTS.rglob("*.py")), *sorted((TESTS.parent / "examples").rglob("*.py"))]
INSIDE = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]
ALLOWED = {
    "_version": "torch counts the in-place changes of a tensor here",
    "_forward_hooks": "torch has no public reader of a module's hooks; none may be left behind",
    "_forward_pre_hooks": "as above",
    "_python_dispatch": "the only module from which torch exports TorchDispatchMode",
    "_exit": "public, although underscored: os documents it",
    "_replace": "public, although underscored: every named tuple documents it",
}
BY_STRING = {"getattr", "setattr", "hasattr", "delattr", "attrgetter"}
"""Functions and methods that take attribute names as strings."""


def private(name: str) -> bool:
    return bool(re.match(r"_(?!_*$)(?!_.*__$)", name)) and name not in ALLOWED


def defined(scope: ast.AST) -> set[str]:
    """All private names that the code below a node defines: functions, attributes, variables."""
    names = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and text(node.func).endswith("register_buffer"):
            names |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return {name for name in names if private(name)}


def own(node: ast.Attribute) -> bool:
    """True for `self._name` and `cls._name`."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def text(node: ast.AST) -> str:
    return ast.unparse(node)


def bases(tree: ast.AST) -> dict[str, tuple[set[str], set[str]]]:
    """By class: names of its bases without their modules, and the private names it defines."""
    return {
        node.name: ({text(base).split(".")[-1] for base in node.bases}, defined(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def package_classes() -> dict[str, tuple[set[str], set[str]]]:
    found: dict[str, tuple[set[str], set[str]]] = {}
    for file in INSIDE:
        found |= bases(ast.parse(file.read_text()))
    return found


CLASSES = package_classes()
DEFINED = {file: defined(ast.parse(file.read_text())) for file in INSIDE}


def inherited(names: set[str]) -> set[str]:
    """Private names of the package's classes with these names, and of their bases."""
    above = [CLASSES[name] for name in names if name in CLASSES]
    return {p for parents, private in above for p in private | inherited(parents)}


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of every use of a private name that belongs to another module."""
    here = defined(tree)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    inside = {id(node) for c in classes for node in ast.walk(c)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, f"import of {p}") for p in parts if private(p))
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".")]
            yield from ((node.lineno, f"import of {p}") for p in parts if private(p))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            if node.attr not in here and not (own(node) and id(node) in inside):
                yield node.lineno, text(node)
        elif isinstance(node, ast.Call) and text(node.func).split(".")[-1] in BY_STRING:
            for arg in node.args:
                if isinstance(arg, ast.Constant) and isinstance(arg.value, str):
                    name = arg.value.split(".")[-1]
                    if private(name) and name not in here:
                        yield node.lineno, text(node)


def overrides(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of private names of a base in the package that a subclass elsewhere uses."""
    local = bases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            parents = {text(base).split(".")[-1] for base in node.bases}
            taken = inherited(parents - local.keys())
            for inner in ast.walk(node):
                if isinstance(inner, ast.Attribute) and own(inner) and inner.attr in taken:
                    yield inner.lineno, f"{node.name} uses its base's {inner.attr}"
                elif isinstance(inner, ast.FunctionDef) and inner.name in taken:
                    yield inner.lineno, f"{node.name} overrides its base's {inner.name}"


def problems(code: str) -> list[tuple[int, str]]:
    tree = ast.parse(code)
    return sorted({*uses(tree), *overrides(tree)})


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda file: "/".join(file.parts[-2:]))
def test_tests_and_examples_use_no_private_name_of_another_module(file: Path) -> None:
    found = problems(file.read_text())
    assert not found, "\n".join(f"{file}:{line}: {what}" for line, what in found)


def test_no_module_of_the_packages_uses_a_private_name_of_another_one() -> None:
    assert len(INSIDE) > 100
    found = []
    for file in INSIDE:
        others = {n for other, names in DEFINED.items() if other != file for n in names}
        for line, what in problems(file.read_text()):
            if others & set(re.findall(r"\w+", what)):
                found.append(f"{file}:{line}: {what}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "from noisynets.core.noise import _draw",
        "import noisynets._hidden",
        "from noisynets._hidden import draw",
        "found = probe._records",
        "probe.inner._records = []",
        "getattr(probe, '_records')",
        "monkeypatch.setattr('noisynets.core.noise._draw', None)",
        "monkeypatch.setattr(noise, '_draw', None)",
        "class Own(Probe):\n    def f(self):\n        return other._records",
        "def patched(self: Probe):\n    return self._records",
    ],
)
def test_private_names_are_found(code: str) -> None:
    assert problems(code)


def test_a_private_name_of_a_base_in_the_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSES, "Base", ({"Root"}, {"_map"}))
    monkeypatch.setitem(CLASSES, "Root", (set(), {"_seed"}))
    assert problems("class Own(m.Base):\n    def f(self):\n        self._map = 1")
    assert problems("class Own(Base):\n    def f(self):\n        return self._seed")
    assert problems("class Own(Base):\n    def _seed(self):\n        return 1")
    assert not problems("class Own(Base):\n    def f(self):\n        self._other = 1")


@pytest.mark.parametrize(
    "code",
    [
        "x._version",
        "x.__dict__",
        "_, b = pair",
        "class Own:\n    def f(self, other):\n        self._x = other._x",
        "def _help():\n    pass\n_help()",
        "getattr(x, 'public')",
    ],
)
def test_public_and_own_names_are_not(code: str) -> None:
    assert not problems(code)
