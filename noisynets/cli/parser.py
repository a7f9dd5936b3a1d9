"""The parser of the command line, made from declared settings."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

from noisynets.core.errors import LONGEST, InputError
from noisynets.core.settings import GROUPS, REQUIRED, Option, Setting, Settings
from noisynets.core.values import declared, made, options, refuse

T = TypeVar("T")

WORDS = {int: "a whole number", float: "a number"}


class Parser(argparse.ArgumentParser):
    """Raises InputError, in one line, where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse a command line."""
        raise InputError(message.removeprefix("argument "))


@dataclass(frozen=True)
class Command:
    """A command of `noisynets`.

    Attributes:
        name: the first word of the command line.
        run: what it does, with its own arguments and, if it takes settings, a config.
        arguments: declares its own arguments.
        settings: declares the settings that it also takes; None: it takes none.
        completed: (arguments, settings that the command line gives) → these, and those of a file
            that the arguments name; None: they name none.
    """

    name: str
    run: Callable[..., None]
    arguments: type[Settings]
    settings: type[Settings] | None = None
    completed: Callable[[Any, dict[str, Any]], dict[str, Any]] | None = None

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.run.__doc__ or "").strip().splitlines()[0]

    @property
    def own(self) -> dict[str, Option]:
        """Its own arguments."""
        return dict(declared(self.arguments))

    @property
    def all(self) -> dict[str, Option]:
        """Its own arguments, and the settings that it takes."""
        return {**self.own, **(options(self.settings) if self.settings else {})}

    def __call__(self, words: Sequence[str]) -> None:
        """Parse the words that follow the command's name, and run it."""
        given = parsed(self.all, words)
        own = {name: value for name, value in given.items() if name in self.own}
        arguments = made(self.arguments, own)
        refuse(arguments, self.arguments)
        if self.settings is None:
            self.run(arguments)
        else:
            rest = {name: value for name, value in given.items() if name not in own}
            rest = rest if self.completed is None else self.completed(arguments, rest)
            self.run(arguments, made(self.settings, rest))


def parsed(found: Mapping[str, Option], words: Sequence[str]) -> dict[str, Any]:
    """Return the values that a command line gives, by name.

    Args:
        found: the options that it may have.
        words: of the command line.

    Raises:
        InputError: for unknown options, values of a wrong type, or missing ones.

    >>> from noisynets.core.settings import option
    >>> parsed({"sigma": option("sigma", 0.1, "σ")}, ["--sgima", "1"])
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: unknown option --sgima: did you mean --sigma?
    """
    parser = Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for option in found.values():
        _add(parser, option)
    namespace, rest = parser.parse_known_intermixed_args(_normal(words, found))
    if rest:
        _refuse(rest, found)
    given = vars(namespace)
    for name, value in given.items():
        if value == [] and get_origin(_plain(found[name].type)) is not tuple:
            raise InputError(f"{found[name].flag}: expected one argument")  # argparse drops '--'
    return {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}


def _add(parser: argparse._ActionsContainer, option: Option, help: str | None = None) -> None:
    """Add an option to a parser."""
    keywords: dict[str, Any] = {"help": help}
    hint = _plain(option.type)
    several = get_origin(hint) is tuple
    if option.setting.positional:
        required = option.default is REQUIRED
        keywords["nargs"] = "*" if several else None if required else "?"
        keywords["metavar"] = option.setting.metavar
        if several:
            keywords["default"] = option.default
        parser.add_argument(option.name, type=_reader(option.type), **keywords)
    elif hint is bool:
        action = argparse.BooleanOptionalAction
        parser.add_argument(option.flag, dest=option.name, action=action, **keywords)
    else:
        keywords["metavar"] = _metavar(option)
        keywords |= {"nargs": "*"} if several else {}
        keywords |= {"action": "extend"} if option.setting.repeated else {}
        parser.add_argument(option.flag, dest=option.name, type=_reader(option.type), **keywords)


def _plain(hint: Any) -> Any:
    """Return a type without None."""
    if get_origin(hint) not in (types.UnionType, Union):
        return hint
    parts = [part for part in get_args(hint) if part is not type(None)]
    return parts[0] if len(parts) == 1 else hint


def _metavar(option: Option) -> str:
    hint = _plain(option.type)
    if option.setting.metavar != "NAME":
        return option.setting.metavar
    words = {int: "INT", float: "FLOAT", Path: "PATH"}
    return words.get(hint, "NAME")


def _reader(hint: Any) -> Callable[[str], Any]:
    """Return the function that reads a value of some type from a text."""
    parts = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)

    def read(text: str) -> Any:
        if type(None) in parts and text == "None":
            return None
        if Path in parts and not text:
            raise argparse.ArgumentTypeError("the path is empty")
        for part in parts:
            if get_origin(part) is Literal and text in get_args(part):
                return text
        for part in parts:
            kind = get_args(part)[0] if get_origin(part) is tuple else part
            if kind in (int, float, str, Path):
                try:
                    return kind(text)
                except ValueError as error:
                    raise argparse.ArgumentTypeError(f"{text!r} is not {WORDS[kind]}") from error
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read")

    return read


def _normal(words: Sequence[str], found: Mapping[str, Option]) -> list[str]:
    """Spell options with dashes, and tie negative numbers such as -1e-3 to the option before."""
    made: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            made.append(name.replace("_", "-") + equals + value)
        elif word.startswith("-") and made and made[-1].startswith("--") and _number(word):
            made[-1] += f"={word}"
        else:
            made.append(word)
    return made


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse(rest: Sequence[str], found: Mapping[str, Option]) -> NoReturn:
    """Raise an InputError for words that are no options."""
    unknown = next((word.partition("=")[0] for word in rest if word.startswith("-")), None)
    if unknown is None:
        raise InputError(f"{rest[0]!r} is one argument too many")
    flags = [option.flag for option in found.values() if not option.setting.positional]
    flags += [f"--no-{flag[2:]}" for flag in flags]
    nearest = get_close_matches(unknown[:LONGEST], flags, n=1, cutoff=0.3)
    hint = f": did you mean {nearest[0]}?" if nearest else ""
    raise InputError(f"unknown option {unknown}{hint}")


def help_of(command: Command, shown: Mapping[str, Option], more: str = "") -> str:
    """Return the help of a command.

    Args:
        command: whose help.
        shown: the options that are explained.
        more: a last line.
    """
    parser = argparse.ArgumentParser(
        prog=f"noisynets {command.name}",
        usage=_usage(command),
        description=command.summary,
        epilog=more or None,
        add_help=False,
        formatter_class=_Formatter,
    )
    own = [option for name, option in shown.items() if name in command.own]
    rest = [option for name, option in shown.items() if name not in command.own]
    groups = {"arguments": own} | {g: [o for o in rest if o.setting.group == g] for g in GROUPS}
    others = [o for o in rest if o.setting.group not in GROUPS]
    for title, members in (groups | {"others": others}).items():
        group = parser.add_argument_group(title)
        for option in sorted(
            members, key=lambda o: (not o.setting.positional, not o.setting.common)
        ):
            _add(group, option, explained(option))
    return parser.format_help()


def _usage(command: Command) -> str:
    words = ["noisynets", command.name]
    for option in command.all.values():
        if option.setting.positional:
            word = option.setting.metavar
            several = get_origin(option.type) is tuple
            word = f"{word} ..." if several else word
            words.append(word if option.default is REQUIRED else f"[{word}]")
    return " ".join([*words, "[options]"])


def explained(option: Option) -> str:
    """Return the help of an option, with its unit and default.

    >>> from noisynets.core.settings import option
    >>> explained(option("tau", 0.2, "Time constant.", unit="seconds"))
    'Time constant. (in seconds; default: 0.2)'
    """
    s = option.setting
    text = s.help() if callable(s.help) else s.help
    default = option.default
    notes = [f"in {s.unit}"] if s.unit else []
    if default not in (None, False, (), REQUIRED):
        notes.append(
            f"default: {default:g}" if isinstance(default, float) else f"default: {default}"
        )
    return (f"{text} ({'; '.join(notes)})" if notes else text).replace("%", "%%")


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def arguments(cls: type[T], words: Sequence[str] | None = None) -> T:
    """Return a dataclass whose fields a script's command line gives; end with 2 where it cannot.

    Args:
        cls: its fields are the options; one that is declared as positional goes without its name.
        words: None: those of the process.
    """
    hints = get_type_hints(cls)
    plain = Setting(help="")
    found = {
        f.name: Option(f.name, hints[f.name], f.default, f.metadata.get("setting", plain))
        for f in fields(cls)  # type: ignore[arg-type]
    }
    words = sys.argv[1:] if words is None else words
    if {"-h", "--help"} & set(words):
        print(cls.__doc__, *(option.flag for option in found.values()), sep="\n")
        sys.exit()
    try:
        return cls(**parsed(found, words))
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
