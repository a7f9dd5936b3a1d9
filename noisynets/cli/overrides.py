"""Settings in the form NAME=VALUE, by which `noisynets bench --set` overrides those of a suite."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any, get_origin

from noisynets.core.errors import InputError, unknown
from noisynets.core.settings import Option
from noisynets.core.values import fits, options
from noisynets.run.settings import Config

OTHERWISE = {"rule": "--rules", "seed": "--seeds", "epochs": "--epochs", "data_dir": "--data-dir"}
"""Settings for which `noisynets bench` has options."""


def overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Return settings by name.

    Args:
        texts: each NAME=VALUE, a value as in TOML; texts need no quotes, and lists no brackets.

    Raises:
        InputError: for another form, an unknown name, a name that is there twice, or a value of a
            wrong type.

    >>> overrides(["width=64", "lr=0.01", "hidden=64,32", "standardise=true", "init=he"])
    {'width': 64, 'lr': 0.01, 'hidden': [64, 32], 'standardise': True, 'init': 'he'}
    """
    found: dict[str, Any] = {}
    known = options(Config)
    for text in texts:
        given, equals, value = text.partition("=")
        name = given.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise InputError(f"--set {text}: must be NAME=VALUE, as lr=0.01")
        if name in OTHERWISE:
            raise InputError(f"--set {text}: give {OTHERWISE[name]}")
        if name not in known:
            raise InputError(f"--set {text}: {unknown('setting', given, known)}")
        if name in found:
            raise InputError(f"--set {text}: {name} is set twice")
        found[name] = _value(text, value.strip(), known[name])
    return found


def _value(text: str, value: str, option: Option) -> Any:
    """Return the value of a setting."""
    several = get_origin(option.type) is tuple or fits([], option.type)
    read: Any = value
    try:
        bare = several and not value.startswith("[")
        read = tomllib.loads(f"x = [{value}]" if bare else f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        read = [part.strip() for part in value.split(",")] if several else value
    if not fits(read, option.type) and fits(value, option.type):
        read = value  # a text that looks like a number
    if not fits(read, option.type):
        raise InputError(f"--set {text}: the value has the wrong type: see train --help-all")
    return read
