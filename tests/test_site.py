"""The documentation site builds without a warning, and has every page and every public name."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import noisynets
import noisynets_envs

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")
pytest.importorskip("nbconvert")

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built by the command that docs/README.md gives."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    command += ["--config-file", ".ci/site/mkdocs.yml", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return out


def test_every_page_is_on_the_site(site: Path) -> None:
    pages = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    for page in pages:
        name = page.relative_to(DOCS).with_suffix(".html")
        assert (site / ("pages.html" if page.name == "README.md" else name)).exists(), name
    assert "Install and train" in (site / "index.html").read_text()


@pytest.mark.parametrize("package", [noisynets, noisynets_envs])
def test_the_reference_has_every_public_name(site: Path, package) -> None:
    pages = {page.name: page.read_text() for page in (site / "reference").glob("*.html")}
    index = pages.pop("index.html")
    for name in package.__all__:
        anchor = f"{package.__name__}.{name}"
        assert [page for page, text in pages.items() if f'id="{anchor}"' in text], anchor
        assert f"#{anchor}" in index, anchor


def test_the_reference_shows_arguments_shapes_and_source(site: Path) -> None:
    page = (site / "reference" / "estimators.html").read_text()
    for part in ("Parameters:", "Source code in", "resamples", "node_perturbation.py"):
        assert part in page, part
    losses = (site / "reference" / "core.html").read_text()
    assert "(B, *in)" in losses and "&gt;&gt;&gt;" in losses  # shapes and doctests as written


def test_what_pages_link_to_outside_docs_is_shown(site: Path) -> None:
    assert "<h1" in (site / "source" / "examples" / "own_box.py.html").read_text()
    assert "check.py" in (site / "source" / "noisynets" / "core" / "index.html").read_text()


def test_search_finds_a_page_and_a_name(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    titles = {entry["title"] for entry in entries}
    assert {"Warnings", "Rules"} <= titles
    assert any(entry["location"].endswith("#noisynets.NodePerturbation") for entry in entries)
    assert not any(entry["location"].startswith("source/") for entry in entries)


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = re.findall(
            r"<(?:script|img|link)[^>]*(?:src|href)=\"?(https?://[^ \">]*)", page.read_text()
        )
        assert not found, (page.name, found)
