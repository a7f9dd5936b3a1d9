"""Optional packages, which come with the extras of pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from noisynets.core.errors import InputError


class MissingPackages(InputError, ImportError):
    """Packages of an extra are not installed, or cannot be imported (exit code 2)."""


@contextmanager
def extra(name: str, wanted_by: str) -> Iterator[None]:
    r"""Give a failed import within the block one line that names the extra to install.

    Args:
        name: name of the extra, such as 'tonic'.
        wanted_by: what needs the packages, such as 'tonic:SHD'.

    Raises:
        MissingPackages: if a package is missing, or fails to be imported.

    >>> try:
    ...     with extra("tonic", "an event camera"):
    ...         import absent
    ... except MissingPackages as error:
    ...     print(*str(error).split(": "), sep="\n")
    an event camera needs more packages (No module named 'absent')
    python -m pip install 'noisynets[tonic]'
    """
    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise MissingPackages(
            f"{wanted_by} needs more packages ({reason}): python -m pip install 'noisynets[{name}]'"
        ) from error
