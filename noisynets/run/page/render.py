"""A page as HTML."""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version

from noisynets.core.extras import extra
from noisynets.run.page.blocks import Page, Plot


def needs_plotly() -> None:
    """Refuse to go on without plotly.

    Raises:
        InputError: if it is not installed.
    """
    _plotly()


def rendered(page: Page) -> str:
    """Return a page as HTML, with its style, its scripts and its pictures inside.

    The content security policy of the page lets its own scripts run, known by their hashes, and
    nothing be loaded: neither from the network nor from texts that others wrote.

    Args:
        page: what it shows.
    """
    with extra("report", "report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("noisynets.run.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = [section for section in page.sections if section.blocks]
    plots = any(isinstance(block, Plot) for section in sections for block in section.blocks)
    scripts = [_plotly(), found.get_template("page.js").render()] if plots else []
    return found.get_template("page.html").render(
        page=page,
        sections=sections,
        style=found.get_template("page.css").render(),
        scripts=scripts,
        policy=" ".join(f"'sha256-{_hash(script)}'" for script in scripts) or "'none'",
        version=version("noisynets"),
    )


def _plotly() -> str:
    with extra("report", "report"):
        from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
