"""Data sets: listing, fetching and verifying them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from noisynets.core.errors import InputError, unknown
from noisynets.core.settings import REQUIRED, Settings, setting
from noisynets.tasks.data import FROM_FILES, TASKS
from noisynets.tasks.data.store import fetch, home, missing, verify

ACTIONS = ("list", "fetch", "verify", "where")


@dataclass(frozen=True, kw_only=True)
class DataArguments(Settings):
    """Arguments of `noisynets data`."""

    action: str = setting(
        REQUIRED,
        "list; fetch, which fills the cache; verify, which checks every file's checksum; or where, "
        "which prints folders.",
        metavar="ACTION",
        positional=True,
        choices=ACTIONS,
    )
    names: tuple[str, ...] = setting(
        (), "Data sets. None given: all, for list, verify and where.", positional=True
    )
    data_dir: Path | None = setting(
        None,
        "Folder of your own to verify, instead of the cache ($NOISYNETS_DATA, or your user's cache "
        "folder).",
    )


def data(arguments: DataArguments) -> None:
    """List, fetch or verify data sets, or print their folders."""
    action, names, data_dir = arguments.action, arguments.names, arguments.data_dir
    known = {task.name: task.files for task in TASKS.values() if task.files is not None}
    for name in names:
        if name in TASKS and name not in known:
            raise InputError(f"{name}: comes with the package or is made on the spot")
        if name in FROM_FILES:
            raise InputError(f"{name}: {FROM_FILES[name]}")
        if name not in known:
            raise unknown("data set", name, known)
    if action == "fetch" and not names:
        raise InputError(f"fetch what? Known: {', '.join(known)}")
    chosen = {name: files for name, files in known.items() if name in names or not names}
    wrong = []
    for name, files in chosen.items():
        folder = data_dir or home() / name
        if action == "fetch":
            print(fetch(files, say=lambda line: print(line, file=sys.stderr)))
        elif action == "where":
            print(folder)
        elif action == "list":
            state = "not fetched" if missing(files, folder) else "there"
            print(f"{name:16s} {state:12s} {TASKS[name].summary}")
        elif names or not missing(files, folder):
            problems = verify(files, folder)
            print(f"{name}: {'; '.join(problems) or 'as published'}")
            wrong += problems and [name]
    if action == "list" and not names:
        for name, summary in FROM_FILES.items():
            print(f"{name:16s} {'your files':12s} {summary}")
    if wrong:
        raise InputError(f"{', '.join(wrong)}: remove the files, then: noisynets data fetch")
