"""What a page is made of: sections of tables, plots, pictures, texts and notes."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote


@dataclass(frozen=True)
class Link:
    """A link to a file beside the page.

    Attributes:
        text: that is shown.
        path: relative to the page, with slashes.
    """

    text: str
    path: str

    @property
    def href(self) -> str:
        """The address; no name of a file can make it one of another kind.

        >>> Link("run", "javascript:alert(1)").href
        './javascript%3Aalert%281%29'
        """
        return f"./{quote(self.path)}"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        heads: of the columns.
        rows: cells, as many as heads; the first one names the row.
        folded: True if it is shown only on demand.
        narrow: True if it may stand beside something else.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str | Link, ...], ...]
    folded: bool = False
    narrow: bool = False
    template: ClassVar[str] = "table.html"


@dataclass(frozen=True)
class Plot:
    """A figure with hover.

    Attributes:
        caption: what it shows.
        figure: data and layout, as plotly has them.
        height: in pixels.
        wide: True if it stands alone in its row.
    """

    caption: str
    figure: dict[str, Any]
    height: int = 320
    wide: bool = False
    template: ClassVar[str] = "plot.html"


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        png: contents of a PNG.
        alt: what it shows, for those who do not see it.
        caption: under it; '': none.
    """

    png: bytes
    alt: str
    caption: str = ""

    @property
    def source(self) -> str:
        """The picture as an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side.

    Attributes:
        caption: what they show.
        pictures: one or more.
        width: of each, in pixels; 0: its own, or that of the page if that is less.
        pixelated: True if pixels stay sharp.
    """

    caption: str
    pictures: tuple[Picture, ...]
    width: int = 0
    pixelated: bool = False
    template: ClassVar[str] = "gallery.html"


@dataclass(frozen=True)
class Text:
    """A text whose lines and spaces are kept.

    Attributes:
        caption: what it is.
        text: the text.
    """

    caption: str
    text: str
    template: ClassVar[str] = "text.html"


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        caption: what it does.
        text: the command, one line.
    """

    caption: str
    text: str
    template: ClassVar[str] = "command.html"


@dataclass(frozen=True)
class Notes:
    """Sentences, each a paragraph of its own.

    Attributes:
        texts: the sentences.
        warn: True if they are warnings.
    """

    texts: tuple[str, ...]
    warn: bool = False
    template: ClassVar[str] = "notes.html"


Block = Table | Plot | Gallery | Text | Command | Notes


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
        title: the heading.
        blocks: what it contains; a section without any is left out.
    """

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: of the page, its first heading.
        lead: one or two sentences under it.
        sections: in order.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
