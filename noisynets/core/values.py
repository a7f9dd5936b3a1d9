"""Values of declared settings: reading, checking and writing them by their declarations."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from noisynets.core.errors import InputError, unknown
from noisynets.core.settings import SETTINGS, Option, Settings

S = TypeVar("S", bound=Settings)


def declared(cls: type) -> Mapping[str, Option]:
    """Return the settings that a dataclass declares, by name, without those of plug-ins."""
    return _declared(cls)


@cache
def _declared(cls: Any) -> Mapping[str, Option]:
    hints = get_type_hints(cls)
    return types.MappingProxyType(
        {
            f.name: Option(f.name, hints[f.name], f.default, f.metadata["setting"])
            for f in fields(cls)
            if "setting" in f.metadata
        }
    )


def options(cls: type) -> dict[str, Option]:
    """Return the settings that a dataclass declares, and those that plug-ins have added."""
    return {**declared(cls), **SETTINGS}


def value(settings: Settings, name: str) -> Any:
    """Return the value of a setting, declared or added by a plug-in."""
    return settings.option(name) if name in SETTINGS else getattr(settings, name)


def made(cls: type[S], values: Mapping[str, Any]) -> S:
    """Return settings from values by name, of which plug-ins may have added some.

    Raises:
        InputError: for a name that is not declared.
    """
    for name in values:
        if name not in options(cls):
            raise unknown("setting", name, options(cls))
    own = {name: value for name, value in values.items() if name not in SETTINGS}
    added = {name: value for name, value in values.items() if name in SETTINGS}
    return cls(**own, options=changed(added))


def read(cls: type[S], values: Any) -> S:
    """Return settings from the table in a JSON file, of which lists become tuples.

    A file of an earlier version lacks all settings that were added since; they have their defaults.

    Raises:
        InputError: for a name that is not declared or is missing, or a value of a wrong type.
    """
    if not isinstance(values, dict):
        raise InputError("it is no table of settings")
    lacking = declared(cls).keys() - values.keys()
    if lacking and lacking not in _added(cls):
        raise InputError(f"{', '.join(sorted(lacking))}: missing")
    found = {}
    for name, value in values.items():
        option = options(cls).get(name)
        if option is None:
            raise unknown("setting", name, options(cls))
        optional = type(None) in get_args(option.type)
        if not (fits(value, option.type) or (value is None and optional)):
            raise InputError(f"{name} = {_short(value)} has the wrong type")
        found[name] = tuple(value) if isinstance(value, list) else value
    return made(cls, found)


def _added(cls: type[Settings]) -> list[set[str]]:
    """Return the settings that were added after each of the earlier versions."""
    since = {name: option.setting.since for name, option in declared(cls).items()}
    versions = {v: tuple(map(int, v.split("."))) for v in since.values() if v}
    return [
        {name for name, v in since.items() if v and versions[v] >= first}
        for first in versions.values()
    ]


def changed(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return those of plug-ins' settings that differ from their defaults, by name."""
    return tuple(
        (name, value) for name, value in sorted(values.items()) if value != SETTINGS[name].default
    )


def written(settings: Settings) -> dict[str, Any]:
    """Return all values by name, as they are written to a file: without what is derived."""
    own = {name: getattr(settings, name) for name in declared(type(settings))}
    return own | dict(settings.options)


def differing(recorded: Mapping[str, Any], settings: Settings) -> list[str]:
    """Name the settings that must not change during a run, and differ from their record.

    Args:
        recorded: values by name, as `written` returns them, or read from JSON; names that are
            unknown by now are ignored.
        settings: now.
    """
    return [
        name
        for name, option in options(type(settings)).items()
        if name in recorded
        and not option.setting.changeable
        and _plain(recorded[name]) != _plain(value(settings, name))
    ]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def part(settings: Settings, cls: type[S], **changes: Any) -> S:
    """Return the part of settings that a base class has, with changes.

    >>> from noisynets.core.settings import TrialSettings
    >>> part(TrialSettings(noise_over="trial"), TrialSettings, noise_over="step").noise_over
    'step'
    """
    return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)} | changes)


def out_of_range(settings: Settings, cls: type | None = None) -> Iterator[str]:
    """Name every value of settings that is out of its range.

    Args:
        settings: to check.
        cls: check those alone that this base class declares; None: all.
    """
    for name, found in options(cls or type(settings)).items():
        problem = found.problem(value(settings, name))
        if problem:
            yield problem


def check_names(settings: Settings, cls: type | None = None) -> None:
    """Raise an InputError for the first setting that names something unknown."""
    for name, found in options(cls or type(settings)).items():
        found.check_name(value(settings, name))


def refuse(settings: Settings, cls: type[Settings]) -> None:
    """Raise an InputError for names that are unknown or values that are out of range."""
    check_names(settings, cls)
    wrong = list(out_of_range(settings, cls))
    if wrong:
        raise InputError("; ".join(wrong))


def fits(value: Any, hint: Any) -> bool:
    """Return True if a value read from TOML or JSON has the type of a setting, and is finite.

    >>> fits(3, float | None), fits(2.5, int), fits(True, int), fits([8, 8], tuple[int, ...])
    (True, False, False, True)
    >>> fits(float("nan"), float), fits(10**400, float)
    (False, False)
    """
    if get_origin(hint) in (types.UnionType, Union):
        return any(fits(value, part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, hint)


def _short(value: Any) -> str:
    """Return a value for an error message."""
    text = repr(value)
    return text if len(text) < 80 else f"{text[:80]}…"
