"""Pages: what others wrote is text, figures are data, and nothing is loaded."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisynets.core.errors import InputError
from noisynets.run.page import (
    Command,
    Gallery,
    Line,
    Link,
    Notes,
    Page,
    Picture,
    Section,
    Table,
    Text,
    needs_plotly,
    rendered,
)

EVIL = "</script><script>window.stolen = 1</script><img src=x onerror=stolen()>\"'&"


class Found(HTMLParser):
    """Tags, attributes and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


def page_of(text: str) -> Page:
    blocks = (
        Notes((text,), warn=True),
        Table(text, (text, "b"), ((text, Link(text, text)),), folded=True),
        Text(text, text),
        Command(text, f"a --b {text}"),
        Gallery(text, (Picture(b"\x89PNG", text, text),), width=9),
    )
    return Page(text, text, (Section(text, blocks), Section("empty", ())))


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=40) | st.just(EVIL))
def test_no_text_changes_what_a_page_is_made_of(text: str) -> None:
    plain, found = Found(rendered(page_of("x"))), Found(rendered(page_of(text)))
    parts = text.count(" --") + text.strip().startswith("--")
    assert [tag for tag, _ in found.tags if tag != "span"] == [
        tag for tag, _ in plain.tags if tag != "span"
    ]
    assert found.count("span") <= plain.count("span") + parts
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    assert [list(attrs) for tag, attrs in found.tags if tag == "a"] == [["href"]] * 2


def test_a_link_stays_beside_the_page() -> None:
    for path in ("javascript:stolen()", "//host/a", "https://host/", "a b/ü.html"):
        assert re.fullmatch(r"\./[\w/%.~-]*", Link("x", path).href)


def test_tables_have_heads_and_sections_without_blocks_are_left_out() -> None:
    found = Found(rendered(page_of("x")))
    scopes = [attrs["scope"] for tag, attrs in found.tags if tag == "th"]
    assert scopes == ["col", "col", "row"]
    assert found.count("h1") == 1 and found.count("h2") == 1 and found.count("caption") == 1
    (html,) = [attrs for tag, attrs in found.tags if tag == "html"]
    assert html == {"lang": "en"}
    assert found.count("script") == 0  # as there is no figure


def test_figures_are_data_and_plotly_is_there_once() -> None:
    pytest.importorskip("plotly")
    from noisynets.run.page import bars, curves, heatmap, raster

    nan = float("nan")
    plots = (
        curves(EVIL, [Line(EVIL, [1, 2], [nan, None], low=[0, 0], high=[1, 1])], EVIL, EVIL),
        heatmap(
            EVIL,
            [[0.0, nan]],
            [[EVIL, EVIL]],
            EVIL,
            EVIL,
            names=(EVIL, EVIL),
            written=[[EVIL, "1"]],
        ),
        raster(EVIL, [0], [1], (3, 4)),
        bars(EVIL, [EVIL, "b"], [None, 2.0], EVIL, EVIL),
    )
    html = rendered(Page("t", "l", (Section("s", plots),)))
    # a browser ends a script at its first end tag, as this does
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, re.S)
    data = [json.loads(text) for kind, text in scripts if "application/json" in kind]
    assert len(data) == 4 and len(scripts) == 6
    assert html.count("plotly.js v") == 1
    assert "NaN" not in "".join(text for kind, text in scripts if "json" in kind)
    assert data[0]["data"][1]["y"] == [None, None]
    # plotly reads a few tags in labels: there are none
    for name in (data[0]["data"][1]["name"], data[3]["data"][0]["x"][0]):
        assert "<" not in name


def test_the_policy_lets_only_the_own_scripts_run() -> None:
    pytest.importorskip("plotly")
    from noisynets.run.page import bars

    plot = bars("a", ["b"], [1.0], "x", "y")
    html = rendered(Page("t", "l", (Section("s", (plot,)),)))
    metas = [attrs for tag, attrs in Found(html).tags if tag == "meta"]
    (policy,) = [m["content"] for m in metas if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    own = re.findall(r"<script>(.*?)</script>", html, re.S)
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in own]
    assert re.findall(r"'sha256-([^']*)'", policy) == digests and len(own) == 2
    assert not re.search(r'(src|href)="(https?:)?//', html.split("<script>")[0])


def test_logarithmic_axes_have_readable_ticks() -> None:
    pytest.importorskip("plotly")
    from noisynets.run.page import curves

    plot = curves("c", [Line("a", [1, 2], [1e-3, 5e-2])], "epoch", "loss", logs="y")
    axis = plot.figure["layout"]["yaxis"]
    assert axis["tickvals"] == [0.001, 0.002, 0.005, 0.01, 0.02, 0.05] and axis["type"] == "log"
    assert plot.figure["layout"]["xaxis"]["dtick"] == 1
    zero = curves("c", [Line("a", [1, 2], [0.0, 1.0])], "epoch", "loss", logs="y")
    assert "type" not in zero.figure["layout"]["yaxis"]


def test_without_plotly_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"noisynets\[report\]"):
        needs_plotly()
