"""Data sets: what is there, and fetching and checking it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

from noisynets.core.errors import InputError, unknown
from noisynets.tasks.data import FROM_FILES, TASKS
from noisynets.tasks.data.store import fetch, home, missing, verify


def data(
    action: tyro.conf.Positional[Literal["list", "fetch", "verify", "where"]],
    names: tyro.conf.Positional[tuple[str, ...]] = (),
    data_dir: Path | None = None,
) -> None:
    """List, fetch or verify data sets, or say where they are.

    Args:
        action: fetch fills the cache; verify checks every file's md5 sum; where prints folders.
        names: of data sets; all that are known to be fetched, for verify and where.
        data_dir: a folder of your own to verify, instead of the cache ($NOISYNETS_DATA, or your
            user's cache folder).
    """
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
            print(f"{name:14s} {state:12s} {TASKS[name].summary}")
        elif names or not missing(files, folder):
            problems = verify(files, folder)
            print(f"{name}: {'; '.join(problems) or 'as published'}")
            wrong += problems and [name]
    if action == "list" and not names:
        for name, summary in FROM_FILES.items():
            print(f"{name:14s} {'your files':12s} {summary}")
    if wrong:
        raise InputError(f"{', '.join(wrong)}: remove the files, then: noisynets data fetch")
