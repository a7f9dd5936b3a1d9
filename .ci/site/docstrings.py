"""Docstrings as Markdown: doctests are code, and stars of shapes are stars."""

import re
from typing import Any

from griffe import Extension, Object

DOCTEST = re.compile(r"^>>> .*?(?=\n\n|\Z)", re.S | re.M)
STAR = re.compile(r"(?<![\w*`])\*(?=\w+\))")
"""As in (B, *out)."""


class Readable(Extension):
    """Puts doctests into fences, and escapes the stars of shapes."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    r"""Return a docstring in which Markdown shows what Python's reader sees.

    >>> markdown("Of x (B, *in).\n\n>>> 1 + 1\n2")
    'Of x (B, \\*in).\n\n```pycon\n>>> 1 + 1\n2\n```'
    """
    parts = re.split(f"({DOCTEST.pattern})", text, flags=DOCTEST.flags)
    return "".join(
        f"```pycon\n{part}\n```" if i % 2 else STAR.sub(r"\\*", part)
        for i, part in enumerate(parts)
    )
