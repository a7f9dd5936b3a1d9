"""The command that makes a run again."""

from __future__ import annotations

import shlex
from typing import Any

from noisynets.core.errors import InputError
from noisynets.core.settings import Option
from noisynets.core.values import made, options, value
from noisynets.run.settings.resolve import resolve
from noisynets.run.settings.settings import Config


def command(config: Config) -> str:
    """Return the command line of `train` that makes a run again.

    Settings are left out where the others imply them. Of a run with files of its own
    (`--data-dir`), which would be read each time, all that differ from the defaults are named.

    Args:
        config: resolved settings.

    >>> command(resolve(Config(task="yinyang", epochs=3, lr=1.25e-3)))
    'noisynets train yinyang --epochs 3 --lr 0.00125'
    """
    given = {
        name: found
        for name, option in options(Config).items()
        if (found := value(config, name)) != option.default
    }
    for name in [] if config.data_dir else list(given):
        fewer = {other: found for other, found in given.items() if other != name}
        if _gives(fewer, config):
            given = fewer
    words = ["noisynets", "train", config.task]
    for name, found in given.items():
        if name != "task":
            words += _spelled(options(Config)[name], found)
    return shlex.join(words)


def _gives(values: dict[str, Any], config: Config) -> bool:
    """Return True if settings, resolved, are those of a run."""
    try:
        return resolve(made(Config, values)) == config
    except InputError:
        return False


def _spelled(option: Option, given: Any) -> list[str]:
    """Return an option and its value as words of a command line, numbers with all their digits."""
    if isinstance(given, bool):
        return [option.flag if given else f"--no-{option.flag[2:]}"]
    words = [str(part) for part in (given if isinstance(given, tuple) else (given,))]
    if len(words) == 1 and words[0].startswith("-"):  # no option of its own
        return [f"{option.flag}={words[0]}"]
    return [option.flag, *words]
