"""Texts in pictures that show what users have named."""

from __future__ import annotations


def literal(text: str) -> str:
    r"""Return a text that Matplotlib draws as it is, and not as a formula between dollar signs.

    >>> literal("$5 to $10")
    '\\$5 to \\$10'
    """
    return text.replace("$", r"\$")
