"""Lets packages import names of torchvision where it does not import beside torch.

Every name is an empty class, which nothing is an instance of. timm asks for torchvision's frozen
batch norm and for its image transforms; no model needs either.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Anything(type):
    """A class whose attributes are their own names."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class EmptyModule(ModuleType):
    """A module with every name."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})


class Finder(MetaPathFinder, Loader):
    """Finds torchvision and all that is in it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Find what belongs to torchvision."""
        if name.split(".")[0] != "torchvision":
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty module."""
        return EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


def install() -> None:
    """Answer every import of torchvision in this process, if it does not import."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        sys.meta_path.insert(0, Finder())
