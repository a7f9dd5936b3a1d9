"""Settings of a run in TOML files: written, and read with checks of names and types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from noisynets.core.errors import InputError, unknown
from noisynets.core.reading import read_toml
from noisynets.core.settings import GROUPS
from noisynets.core.values import fits, options, value
from noisynets.run.settings.settings import Config

HEAD = "# Settings of a run, for: noisynets train --config FILE"


def toml(config: Config) -> str:
    """Return settings as the text of a TOML file; those that are None are left out.

    >>> toml(Config(lr=0.1)).splitlines()[2:4]
    ['# what is trained', 'task = "mnist"']
    """
    lines = [HEAD]
    for group in GROUPS:
        members = [name for name, o in options(Config).items() if o.setting.group == group]
        found = [(name, value(config, name)) for name in members]
        lines += ["", f"# {group}"]
        lines += [f"{name} = {_written(v)}" for name, v in found if v is not None]
    others = [name for name, o in options(Config).items() if o.setting.group not in GROUPS]
    lines += [f"{name} = {_written(value(config, name))}" for name in others]
    return "\n".join([*lines, ""])


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file; it need not have all.

    Args:
        path: of the file. Names may have dashes for underscores.

    Returns:
        Values by name.

    Raises:
        InputError: if the file cannot be read, or has an unknown name or a value of a wrong type.
    """
    found: dict[str, Any] = {}
    known = options(Config)
    absent = "name a TOML file, as --save-config writes it"
    for key, given in read_toml(path, absent=absent).items():
        name = key.replace("-", "_")
        if name not in known:
            raise InputError(f"{path}: {unknown('setting', key, known)}")
        if name in found:
            raise InputError(f"{path}: {name} is there twice: remove one")
        if not fits(given, known[name].type):
            raise InputError(f"{path}: {key} = {given!r:.80} has the wrong type: see --help-all")
        found[name] = tuple(given) if isinstance(given, list) else given
    return found


def _written(found: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(found, tuple):
        return f"[{', '.join(map(_written, found))}]"
    if isinstance(found, str):
        return json.dumps(found, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(found).lower() if isinstance(found, bool) else repr(found)
