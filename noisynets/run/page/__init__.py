"""Pages: a report as one HTML file that needs nothing else; by Jinja templates and plotly.

`blocks` says what a page is made of, `plots` makes figures with hover, and `rendered` makes the
HTML. All texts may come from others: they are escaped, and the page runs no scripts but its own.
"""

from noisynets.run.page.blocks import (
    Block,
    Command,
    Gallery,
    Link,
    Notes,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Text,
)
from noisynets.run.page.plots import Line, bars, curves, heatmap, raster
from noisynets.run.page.render import needs_plotly, rendered

__all__ = [
    "Block",
    "Command",
    "Gallery",
    "Line",
    "Link",
    "Notes",
    "Page",
    "Picture",
    "Plot",
    "Section",
    "Table",
    "Text",
    "bars",
    "curves",
    "heatmap",
    "needs_plotly",
    "raster",
    "rendered",
]
