"""Reports in a browser: Chromium without a window, of Debian's package `chromium`."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import chromium
import pytest
from PIL import Image
from test_page import EVIL
from test_report import MEASURED, bench_folder
from tiny import run

from noisynets.bench.page import bench_page
from noisynets.diagnose.report import run_page
from noisynets.run.page import rendered

pytest.importorskip("plotly")
pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no chromium")

SIZES = [(width, scheme) for width in (400, 1600) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def write(path: Path, html: str) -> Path:
    path.write_text(html)
    return path


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    """A spiking run that was diagnosed, and a benchmark; both with scripts of someone else."""
    folder = run(tmp_path / "run", system="lif", steps=3, epochs=2, batch_size=50)
    folder.write("diagnose.json", MEASURED | {"advice": EVIL})
    summary = folder.summary()
    folder.write_summary(summary | {"notes": [EVIL], "pictures": ["curves.png", "sample.txt"]})
    (folder.path / "sample.txt").write_text(f"{EVIL}\n{'long' * 300}")
    bench = bench_folder(tmp_path / "bench", f"case {EVIL}")
    return [
        write(folder.path / "report.html", rendered(run_page(folder))),
        write(bench / "report.html", rendered(bench_page(bench, bench))),
    ]


def test_pages_are_readable_in_every_size_and_scheme(browser, pages, tmp_path: Path) -> None:
    browser.errors.clear()
    for page in pages:
        for width, scheme in SIZES:
            browser.open(page, width, scheme)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            places = browser.evaluate(
                "[...document.querySelectorAll('.plot')].map(p => "
                "[p.clientWidth, p.querySelector('.main-svg').getBoundingClientRect().width])"
            )
            assert len(places) >= 3
            assert all(0 < plot <= width and abs(svg - plot) <= 1 for plot, svg in places)
            loaded = browser.evaluate("[...document.images].map(i => i.naturalWidth > 0)")
            assert all(loaded)
            browser.screenshot(tmp_path / "page.png")
            with Image.open(tmp_path / "page.png") as picture:
                assert picture.width == width and picture.height > width
                corner = picture.convert("L").getpixel((1, 1))
                assert corner < 50 if scheme == "dark" else corner > 200
    assert browser.errors == []
    assert browser.evaluate("window.stolen === undefined")


def test_pages_can_be_read_by_everyone(browser, pages) -> None:
    for page in pages:
        browser.open(page, 1000)
        assert browser.evaluate("document.documentElement.lang") == "en"
        assert browser.evaluate("document.title.length") > 5
        levels = browser.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        assert browser.evaluate("[...document.images].every(i => i.alt)")
        assert browser.evaluate(
            "[...document.querySelectorAll('table')].every(t => t.caption && t.tHead.rows.length "
            "&& [...t.querySelectorAll('th')].every(h => h.scope))"
        )
        assert browser.evaluate(
            "[...document.querySelectorAll('figure')].every(f => f.querySelector('figcaption'))"
        )
        assert browser.evaluate(
            "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
        )


def test_curves_answer_the_mouse_and_a_change_of_the_scheme(browser, pages) -> None:
    browser.open(pages[0], 1000)
    browser.evaluate("document.querySelector('.plot').scrollIntoView()")
    x, y = browser.evaluate(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        "(document.querySelector('.plot .nsewdrag').getBoundingClientRect())"
    )
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    browser.settle()
    label = browser.evaluate("document.querySelector('.plot .hoverlayer').textContent")
    assert "training" in label and "validation" in label
    colour = "getComputedStyle(document.querySelector('.plot .lines .js-line, .plot .points path'))"
    light = browser.evaluate(f"{colour}.stroke + {colour}.fill")
    media = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.send("Emulation.setEmulatedMedia", features=media)
    browser.settle()
    assert browser.evaluate(f"{colour}.stroke + {colour}.fill") != light


def test_errors_of_the_console_are_found(browser, tmp_path: Path) -> None:
    """What the other tests rely on."""
    html = "<script>console.error('here'); nothing()</script><img src='https://nowhere.invalid/'>"
    browser.errors.clear()
    browser.open(write(tmp_path / "a.html", html), 400)
    assert len(browser.errors) >= 2
    browser.errors.clear()
