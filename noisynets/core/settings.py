"""Declared settings: what a setting is, its default, its range, its unit, and who uses it.

A setting is declared once, as a field of a frozen dataclass in the room that uses it. The command
line, its help, checks, config.json and suites are all made from the declarations.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from noisynets.core.errors import InputError, unknown
from noisynets.core.registry import Registry

WHAT, HOW, NOISE = "what is trained", "how", "noise and devices"
SPIKING, ENVIRONMENT, RUN = "spiking", "environments", "run"
GROUPS = (WHAT, HOW, NOISE, SPIKING, ENVIRONMENT, RUN)
"""Groups of settings, in the order of the help."""

Choices = Collection[str] | Callable[[], Collection[str]]

DTYPES: Registry[torch.dtype] = Registry(
    "dtype", {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
)
"""Floating-point types, by the names that settings have for them."""

S = TypeVar("S", bound="Settings")

REQUIRED: Any = MISSING
"""The default of a setting that must be given."""


@dataclass(frozen=True)
class Setting:
    """What is declared of a setting.

    Attributes:
        help: what it sets; a function, where the text names what is registered.
        metavar: stands for a value in the help.
        unit: of a number.
        group: under which the help shows it.
        kind: of what it names, in error messages.
        choices: the names that are allowed.
        at_least: lowest value.
        above: the value must be greater.
        at_most: highest value.
        below: the value must be less.
        common: shown in the short help.
        positional: given without its name.
        used_by: kinds of system, rule or task that use it; see `noisynets.run.settings.consumers`.
    """

    help: str | Callable[[], str]
    metavar: str = "NAME"
    unit: str = ""
    group: str = RUN
    kind: str = ""
    choices: Choices | None = None
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    common: bool = False
    positional: bool = False
    used_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """A declared setting with its name, type and default.

    Attributes:
        name: of the field; on the command line with dashes for underscores.
        type: its annotation.
        default: `REQUIRED`, if it has none.
        setting: what is declared of it.
    """

    name: str
    type: Any
    default: Any
    setting: Setting

    @property
    def flag(self) -> str:
        """The option on the command line.

        >>> option("batch_size", 100, "Examples per step.").flag
        '--batch-size'
        """
        return f"--{self.name.replace('_', '-')}"

    def problem(self, value: Any) -> str:
        """Say what is wrong with a value's range; '' if it is within.

        >>> option("decay", 0.5, "Decay per step.", at_least=0, below=1).problem(1.5)
        '--decay 1.5 must be at least 0 and below 1'
        """
        s = self.setting
        if value is None or isinstance(value, str | bool) or _unbounded(s):
            return ""
        if isinstance(value, tuple):
            wrong = any(not _within(v, s) for v in value)
            text = " ".join(map(str, value))
            return f"{self.flag} {text}: every value must be {_range(s, int)}" if wrong else ""
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return "" if _within(value, s) else f"{self.flag} {text} must be {_range(s, type(value))}"

    def check_name(self, value: Any) -> None:
        """Raise an InputError for a value that is none of the setting's choices."""
        choices = self.setting.choices
        if value is None or choices is None:
            return
        known = choices() if callable(choices) else choices
        if value not in known:
            raise unknown(self.setting.kind or self.name.replace("_", " "), value, known)

    def spelled(self, value: Any) -> str:
        """Return the option with its value, as on the command line.

        >>> option("hidden", (64,), "Widths.").spelled((64, 32))
        '--hidden 64 32'
        """
        if isinstance(value, bool):
            return self.flag if value else f"--no-{self.flag[2:]}"
        values = value if isinstance(value, tuple) else (value,)
        text = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
        return " ".join([self.flag, *text])


def setting(default: Any, help: str | Callable[[], str], **declared: Any) -> Any:
    """Declare a setting as the field of a dataclass.

    Args:
        default: `REQUIRED`: it must be given.
        help: as of `Setting`.
        **declared: further attributes of `Setting`.
    """
    return field(default=default, metadata={"setting": Setting(help, **declared)})


def derived(default: Any, *, init: bool = True) -> Any:
    """Declare a field that is computed from settings: no user sets it, and it is not written."""
    return field(default=default, init=init)


def option(
    name: str, default: Any, help: str | Callable[[], str], *, type: Any = None, **declared: Any
) -> Option:
    """Return a setting that a plug-in adds: see `SETTINGS`.

    Args:
        name: of the setting.
        default: its value where it is not given.
        help: as of `Setting`.
        type: of its values; None: that of the default.
        **declared: further attributes of `Setting`.
    """
    return Option(
        name, _type(default) if type is None else type, default, Setting(help, **declared)
    )


SETTINGS: Registry[Option] = Registry("setting")
"""Settings that plug-ins have added; `Settings.option` reads their values."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all declared settings.

    Attributes:
        options: values of settings in `SETTINGS` that differ from their defaults.
    """

    options: tuple[tuple[str, Any], ...] = field(default=())

    def option(self, name: str) -> Any:
        """Return the value of a setting that a plug-in has added.

        Raises:
            InputError: if there is none of that name.
        """
        return dict(self.options).get(name, SETTINGS[name].default)


@dataclass(frozen=True, kw_only=True)
class TrialSettings(Settings):
    """Settings that the noise of systems and injected noise share."""

    noise_over: str = setting(
        "step",
        "Noise, injected or the system's own, is drawn anew in every step, or once per trial.",
        group=SPIKING,
        kind="phase of the noise",
        choices=("step", "trial"),
        used_by=("spiking systems", "examples"),
    )


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


def read(cls: type[S], values: Mapping[str, Any]) -> S:
    """Return settings from values of a JSON file, of which lists become tuples.

    Raises:
        InputError: for a name that is not declared, or a value of a wrong type.
    """
    found = {}
    for name, value in values.items():
        option = options(cls).get(name)
        if option is None:
            raise unknown("setting", name, options(cls))
        optional = type(None) in get_args(option.type)
        if not (fits(value, option.type) or (value is None and optional)):
            raise InputError(f"{name} = {value!r} has the wrong type")
        found[name] = tuple(value) if isinstance(value, list) else value
    return made(cls, found)


def changed(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return those of plug-ins' settings that differ from their defaults, by name."""
    return tuple(
        (name, value) for name, value in sorted(values.items()) if value != SETTINGS[name].default
    )


def written(settings: Settings) -> dict[str, Any]:
    """Return all values by name, as they are written to a file: without what is derived."""
    own = {name: getattr(settings, name) for name in declared(type(settings))}
    return own | dict(settings.options)


def part(settings: Settings, cls: type[S], **changes: Any) -> S:
    """Return the part of settings that a base class has, with changes.

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
    """Return True if a value read from TOML or JSON has the type of a setting.

    >>> fits(3, float | None), fits(2.5, int), fits(True, int), fits([8, 8], tuple[int, ...])
    (True, False, False, True)
    """
    if get_origin(hint) in (types.UnionType, Union):
        return any(fits(value, part) for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _type(default: Any) -> Any:
    if isinstance(default, tuple) and default:
        return types.GenericAlias(tuple, (type(default[0]), ...))
    return str | None if default is None else type(default)


def _unbounded(s: Setting) -> bool:
    return s.at_least is s.above is s.at_most is s.below is None


def _within(value: float, s: Setting) -> bool:
    return (
        math.isfinite(value)
        and (s.at_least is None or value >= s.at_least)
        and (s.above is None or value > s.above)
        and (s.at_most is None or value <= s.at_most)
        and (s.below is None or value < s.below)
    )


def _range(s: Setting, kind: type) -> str:
    if s.at_least is not None and s.at_most is not None:
        return f"within {s.at_least:g}..{s.at_most:g}"
    if s.above == 0 and s.below is None and s.at_most is None:
        return "positive and finite"
    if kind is float and s.at_least == 0 and s.below is None:
        return "finite and not negative"
    limits = [
        f"{word} {limit:g}"
        for word, limit in (
            ("at least", s.at_least),
            ("above", s.above),
            ("at most", s.at_most),
            ("below", s.below),
        )
        if limit is not None
    ]
    return " and ".join(limits)
