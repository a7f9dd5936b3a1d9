"""Declared settings: what a setting is, its default, its range, its unit, and who uses it.

A setting is declared once, as a field of a frozen dataclass in the room that uses it. The command
line, its help, checks, config.json and suites are all made from the declarations.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, field
from typing import Any

import torch

from noisynets.core.errors import unknown
from noisynets.core.pages import Page
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

REQUIRED: Any = MISSING
"""The default of a setting that must be given."""

LARGEST, SMALLEST, WHOLE = 1e38, 1e-37, 2**53
"""Limits of every number: of its size, of what is not 0, and of whole numbers.

Numbers within them, and their reciprocals, are finite in every floating-point type, and whole
numbers are exact in JSON.
"""


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
        repeated: of several values; the option may be given again, to add more.
        used_by: kinds of system, rule or task that use it; see `noisynets.run.settings.consumers`.
        changeable: another value may be given where a run is continued.
        page: of the documentation that explains the choices.
        since: first version whose files have it; '': those of all versions have it.
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
    repeated: bool = False
    used_by: tuple[str, ...] = ()
    changeable: bool = False
    page: Page | None = None
    since: str = ""


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
        several = isinstance(value, tuple)
        numbers = [v for v in (value if several else (value,)) if _is_number(v)]
        wrong = next((found for v in numbers if (found := _wrong(v, s))), "")
        if several:
            text = " ".join(map(str, value))
            return f"{self.flag} {text}: every value must be {wrong}" if wrong else ""
        text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{self.flag} {text} must be {wrong}" if wrong else ""

    def check_name(self, value: Any) -> None:
        """Raise an InputError for a value that is none of the setting's choices."""
        choices = self.setting.choices
        if value is None or choices is None:
            return
        known = choices() if callable(choices) else choices
        if value not in known:
            kind = self.setting.kind or self.name.replace("_", " ")
            raise unknown(kind, value, known, page=self.setting.page)

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


def _type(default: Any) -> Any:
    if isinstance(default, tuple) and default:
        return types.GenericAlias(tuple, (type(default[0]), ...))
    return str | None if default is None else type(default)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(value: float, s: Setting) -> str:
    """Return the range that a number is not in; '' if it is within."""
    if not _within(value, s):
        return _range(s, type(value))
    most = WHOLE if isinstance(value, int) else LARGEST
    if abs(value) > most:
        return f"at most {most:g}"
    return f"0 or at least {SMALLEST:g}" if 0 < abs(value) < SMALLEST else ""


def _within(value: float, s: Setting) -> bool:
    return (
        (isinstance(value, int) or math.isfinite(value))
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
    return " and ".join(limits) or "finite"
