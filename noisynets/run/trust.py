"""Code that the settings of a file would run, and permission to run it.

A run folder or a suite may come from someone else. Its settings run a command or import a module
only if this command line, or this program, named the same one, or trusts the file as a whole.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from noisynets.core.errors import InputError
from noisynets.core.settings import Settings, setting
from noisynets.run.settings.settings import Config
from noisynets.tasks.data import tonic_sets
from noisynets.tasks.environments import ENVIRONMENTS, PREFIX, is_environment

OWN = "noisynets_envs"
"""The module of environments that this package installs."""
PLAIN = re.compile(r"[\w .+-]*")
"""Texts that name neither a file nor a part of a module."""
SHOWN = 200
"""Characters of a command that an error message shows."""


class NotTrusted(InputError):
    """Settings would run code for which there is no permission (exit code 2)."""


class Code(NamedTuple):
    """Code that settings would run.

    Attributes:
        does: what would be done with it, for the error message.
        name: of the command, module or folder.
        option: that names it on the command line; '': only `--trust` allows it.
    """

    does: str
    name: str
    option: str = ""


@dataclass(frozen=True, kw_only=True)
class TrustSettings(Settings):
    """Settings of commands that read settings from files of others."""

    trust: bool = setting(
        False,
        "Run the commands and import the modules that the file names. Unset: only those that this "
        "command line names too.",
    )


@dataclass(frozen=True)
class Trust:
    """Permission to run the code of some settings.

    Attributes:
        named: names of commands, modules and folders that may be used.
        everything: True if all may be.

    >>> Trust().check(Config(system="process-box", box="rm -r ~"))
    Traceback (most recent call last):
    ...
    noisynets.run.trust.NotTrusted: would run the command 'rm -r ~', which this command line ...
    """

    named: frozenset[str] = frozenset()
    everything: bool = False

    @staticmethod
    def of(config: Config) -> Trust:
        """Return permission to run the code of settings that this program has made itself."""
        return Trust(frozenset(code.name for code in codes(config)))

    def check(self, config: Config) -> None:
        """Check that all code of settings from a file may be run; call this before `resolve`.

        Raises:
            NotTrusted: if it may not.
        """
        for code in codes(config):
            if not (self.everything or code.name in self.named):
                name = ascii(code.name)
                shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}…"
                own = f"{code.option} with the same text, or " if code.option else ""
                raise NotTrusted(
                    f"would {code.does} {shown}, which this command line does not name: "
                    f"if you trust it, add {own}--trust"
                )


NOBODY = Trust()
"""Permission to run nothing."""


def resuming(path: Path, config: Config) -> str:
    """Return the command that continues a run, which names the command of its box.

    >>> resuming(Path("runs/one"), Config(system="process-box", box="python box.py"))
    "noisynets resume runs/one --box 'python box.py'"
    """
    words = ["noisynets", "resume", str(path)]
    return shlex.join(words if config.box is None else [*words, "--box", config.box])


def codes(config: Config) -> Iterator[Code]:
    """Name all code that settings would run, beside the package and its plug-ins.

    >>> [code.name for code in codes(Config(task="gym:mine:Env-v0", env=("kind=os:system",)))]
    ['mine', 'kind=os:system']
    """
    if config.box is not None:
        yield Code("run the command", config.box, "--box")
    task = config.task
    if is_environment(task):
        module, colon, _ = task.removeprefix(PREFIX).partition(":")
        if colon and task not in ENVIRONMENTS and module != OWN:
            yield Code("import the module", module)
        for setting in config.env:
            if not _harmless(setting):
                yield Code("make an environment with", setting)
    elif task.startswith(tonic_sets.PREFIX) and config.data_dir is not None:
        folder = str(Path(config.data_dir).absolute())
        yield Code("unpickle what the package tonic finds in", folder, "--data-dir")


def _harmless(setting: str) -> bool:
    """Return True if the value of an environment's setting can name no file and no code."""
    _, _, text = setting.partition("=")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    level: list[Any] = [value]
    while level:
        item = level.pop()
        if isinstance(item, list):
            level += item
        elif isinstance(item, dict) or (isinstance(item, str) and not PLAIN.fullmatch(item)):
            return False
    return True
