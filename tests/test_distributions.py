"""Contents of the source distribution and of the wheel, which is built from it."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.xdist_group("distributions")  # they are built once
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"{PROJECT['name']}-{PROJECT['version']}"
PACKAGES = {"noisynets": "noisynets", "envs": "noisynets_envs"}
"""Names of packages in a wheel, by their folders here."""
CACHES = {"__pycache__", ".DS_Store"}


@dataclass
class Built:
    """Paths of both files within the distributions, and the unpacked wheel."""

    source: set[str]
    wheel: set[str]
    unpacked: Path
    metadata: Message


def backend(hook: str, tree: Path, out: Path) -> None:
    """Call one hook of setuptools in a tree, as pip and build do."""
    code = f"from setuptools import build_meta as b; b.{hook}({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    pytest.importorskip("setuptools", minversion="77")
    top = tmp_path_factory.mktemp("distributions")
    made = (".git", ".venv", "runs", "build", "dist", "*.egg-info", ".*_cache")
    ignored = shutil.ignore_patterns(*made, ".hypothesis", "node_modules")
    shutil.copytree(ROOT, top / "tree", ignore=ignored)
    backend("build_sdist", top / "tree", top)
    with tarfile.open(top / f"{STEM}.tar.gz") as tar:
        source = {m.name.removeprefix(f"{STEM}/") for m in tar.getmembers() if m.isfile()}
        tar.extractall(top / "source", filter="data")
    backend("build_wheel", top / "source" / STEM, top)
    with zipfile.ZipFile(top / f"{STEM}-py3-none-any.whl") as wheel:
        wheel.extractall(top / "wheel")
        metadata = Parser().parsestr(wheel.read(f"{STEM}.dist-info/METADATA").decode())
        names = set(wheel.namelist())
    return Built(source, names, top / "wheel", metadata)


def files(*folders: str) -> set[str]:
    """Paths of all files below folders of this repository."""
    found = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    return {p.relative_to(ROOT).as_posix() for p in found if not CACHES & {*p.parts}}


def test_the_wheel_holds_both_packages_with_their_data_and_nothing_else(built: Built) -> None:
    expected = set()
    for folder, name in PACKAGES.items():
        expected |= {path.replace(folder, name, 1) for path in files(folder)}
    info = f"{STEM}.dist-info/"
    assert {n for n in built.wheel if not n.startswith(info)} == expected
    assert {"noisynets/py.typed", "noisynets_envs/py.typed"} <= expected
    assert "noisynets/bench/suites/smoke.toml" in expected
    assert "noisynets/tasks/data/files/train-images-idx3-ubyte.xz" in expected
    assert f"{info}licenses/LICENSE" in built.wheel


def test_the_source_distribution_holds_what_the_tests_read(built: Built) -> None:
    top = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "SECURITY.md",
    }
    assert top | {".gitignore", ".pre-commit-config.yaml", ".ci/run"} <= built.source
    assert files("tests", "examples", "docs", *PACKAGES, ".ci", ".github") <= built.source
    assert not [name for name in built.source if CACHES & {*Path(name).parts}]
    assert os.access(built.unpacked.parent / "source" / STEM / ".ci" / "run", os.X_OK)


def test_the_metadata_are_those_of_pyproject(built: Built) -> None:
    found = built.metadata
    assert found["License-Expression"] == PROJECT["license"] == "Apache-2.0"
    assert found["Requires-Python"] == PROJECT["requires-python"]
    extras = PROJECT["optional-dependencies"]
    assert set(found.get_all("Provides-Extra", [])) == extras.keys()
    needed = [Requirement(text) for text in found.get_all("Requires-Dist", [])]
    base = {(r.name, str(r.specifier)) for r in needed if r.marker is None}
    given = [Requirement(text) for text in PROJECT["dependencies"]]
    assert base == {(r.name, str(r.specifier)) for r in given}
    points = configparser.ConfigParser()
    points.read(built.unpacked / f"{STEM}.dist-info" / "entry_points.txt")
    assert dict(points["console_scripts"]) == PROJECT["scripts"]
    assert dict(points["gymnasium.envs"]) == PROJECT["entry-points"]["gymnasium.envs"]


def test_the_wheel_trains_without_the_repository(built: Built, tmp_path: Path) -> None:
    """Its files alone, in another folder; a clean environment is a matter of the dependencies."""
    run = ["-m", "noisynets", "train", "--hidden", "8", "--epochs", "1", "--steps-per-epoch", "5"]
    environment = os.environ | {"PYTHONPATH": str(built.unpacked)}
    for command in (["-c", "import noisynets; print(noisynets.__file__)"], run):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert str(built.unpacked) in done.stdout or "test accuracy" in done.stdout
    assert len(list(tmp_path.glob("runs/*/summary.json"))) == 1


def test_the_citation_names_this_version_and_the_paper() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in text
    assert f"\nlicense: {PROJECT['license']}\n" in text
    for name in (PROJECT["authors"][0]["name"], "10.1088/2634-4386/ae9be4", "arXiv:2310.00965"):
        assert name in text
    assert f"version = {{{PROJECT['version']}}}" in (ROOT / "README.md").read_text()


def test_the_licence_is_the_whole_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    for section in ("1. Definitions.", "3. Grant of Patent License.", "9. Accepting Warranty"):
        assert section in text
    assert "END OF TERMS AND CONDITIONS" in text and "APPENDIX: How to apply" in text


def test_the_workflow_runs_ci_on_every_version_of_the_classifiers() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    versions = [c.split()[-1] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert "python: [" + ", ".join(f'"{v}"' for v in versions) + "]" in text
    assert "- run: .ci/run\n" in text and "constraint: .ci/oldest.txt" in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK) and (ROOT / ".ci" / "oldest.txt").exists()
