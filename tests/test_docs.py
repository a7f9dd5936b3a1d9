"""The documentation: links, length, counts, and figures that stand in few places."""

import inspect
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from noisynets import Effect
from noisynets.systems import devices, units

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
COUNTS = r"\b(\d+)\s+effects\b.*?\b(\d+)\s+units\b"
SPREAD = r"−?\d+\.\d+ ± \d+\.\d+"
COINCIDENCES = {"100.00 ± 0.00", "97.97 ± 0.11"}
"""Results of different runs that happen to be equal."""


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose(page)):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_have_as_many_columns_as_their_heads(page: Path) -> None:
    """Other tables are shown as lines of text."""
    lines = [re.sub(r"`[^`]*`", "", line) for line in prose(page).splitlines()]
    for head, line in pairwise(lines):
        if re.fullmatch(r"(\|:?-+:?)+\|", line):
            assert head.count("|") == line.count("|"), head


def test_every_page_and_picture_is_linked() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose(page))
    }
    pictures = list((ROOT / "docs" / "images").glob("*.png"))
    for path in [*PAGES[1:], *pictures]:
        assert path.resolve() in linked, path.relative_to(ROOT)


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    named = re.findall(r"\]\(([^)#]+\.(?:md|ipynb))\)", index.read_text())
    pages = [*PAGES[1:], *index.parent.rglob("*.ipynb")]
    found = {str(page.relative_to(index.parent)) for page in pages if page != index}
    assert sorted(named) == sorted(found)


def test_the_site_shows_every_page() -> None:
    site = (ROOT / ".ci" / "site" / "mkdocs.yml").read_text()
    pages = [page.relative_to(ROOT / "docs") for page in PAGES[1:]]
    assert not [page for page in pages if page.name != "README.md" and str(page) not in site]


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("name", ["README.md", "docs/how-to/devices.md"])
def test_effects_and_units_are_counted_from_the_code(name: str) -> None:
    effects = [getattr(devices, name) for name in devices.__all__]
    effects = [e for e in effects if inspect.isclass(e) and issubclass(e, Effect)]
    kinds = [u for u in vars(units).values() if inspect.isclass(u) and hasattr(u, "forward")]
    own = [u for u in kinds if u.__module__ == units.__name__ and u is not units.StraightThrough]
    (found,) = re.findall(COUNTS, prose(ROOT / name), re.S)
    assert found == (str(len(effects)), str(len(own)))


def test_the_catalogue_names_every_effect_and_unit() -> None:
    text = prose(ROOT / "docs" / "how-to" / "devices.md")
    for name, kind in {**vars(devices), **vars(units)}.items():
        if inspect.isclass(kind) and issubclass(kind, Effect):
            assert f"`{name}`" in text, name


def test_no_figure_stands_on_more_than_two_pages() -> None:
    pages = defaultdict(set)
    for page in PAGES:
        for figure in re.findall(SPREAD, prose(page)):
            pages[figure].add(str(page.relative_to(ROOT)))
    crowded = {f: sorted(on) for f, on in pages.items() if len(on) > 2 and f not in COINCIDENCES}
    assert crowded == {}


def test_pages_that_the_code_names_exist() -> None:
    files = [
        f for room in ("noisynets", "envs", "examples", "tests") for f in (ROOT / room).rglob("*")
    ]
    for file in files:
        if file.suffix in (".py", ".toml"):
            for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text()):
                assert (ROOT / name).exists(), f"{file.relative_to(ROOT)}: {name}"
