"""Where data sets lie, and how they get there: a folder of one's own, or the cache, filled once.

Sources are tried one after the other; what a source gives is believed only if every file has its
md5 sum. A fetch happens in a folder of its own within the cache, whose files are renamed to their
places when all are right, so that a dead link, a full disk or an interruption leaves the cache as
it was.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from noisynets.core.errors import InputError

TIMEOUT = 60.0  # seconds without a byte
CLIENT_TIMEOUT = 1800.0  # seconds for a package client as a whole


class SourceFailed(Exception):
    """A source that cannot give the files; the next one is tried."""


@dataclass(frozen=True)
class Source:
    """One way to get files.

    Attributes:
        name: what a user knows it by.
        make: writes the files, by their names, into an empty folder. Raises `SourceFailed`.
    """

    name: str
    make: Callable[[Path], None]


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
        name: of the set, and of its folder in the cache.
        md5: sums by file name, of the uncompressed files; '' where the archive's alone is known.
        sources: in the order in which they are tried.
        advice: how to place the files by hand.
    """

    name: str
    md5: dict[str, str]
    sources: tuple[Source, ...]
    advice: str


def home() -> Path:
    """Return the cache: $NOISYNETS_DATA, or the user's cache folder."""
    given = os.environ.get("NOISYNETS_DATA")
    return Path(given) if given else Path(pooch.os_cache("noisynets"))


def missing(files: Files, folder: Path) -> list[str]:
    """Return the names of files that are not in a folder."""
    return [name for name in files.md5 if not (folder / name).is_file()]


def locate(files: Files, folder: Path | None) -> Path:
    """Return the folder that holds the files, fetched first if need be.

    Args:
        files: what is looked for.
        folder: of one's own; None: the cache.

    Raises:
        InputError: for a folder without them, or where no source gives them.
    """
    if folder is not None:
        lacking = missing(files, folder)
        if lacking:
            raise InputError(f"{folder}: no {', '.join(lacking)}; {files.advice}")
        return folder
    return fetch(files)


def fetch(files: Files, say: Callable[[str], None] = lambda line: None) -> Path:
    """Fill the cache if it has not got the files, and return their folder.

    Args:
        files: what to get.
        say: told what is being tried.

    Raises:
        InputError: one line that names every source and what went wrong.
    """
    target = home() / files.name
    if not missing(files, target):
        return target
    problems = []
    for source in files.sources:
        say(f"{files.name}: trying {source.name}")
        try:
            with _beside(target) as folder:
                source.make(folder)
                wrong = verify(files, folder)
                if wrong:
                    raise SourceFailed("; ".join(wrong))
                target.mkdir(exist_ok=True)
                for name in files.md5:
                    os.replace(folder / name, target / name)
            return target
        except SourceFailed as error:
            problems.append(f"{source.name}: {error}")
        except OSError as error:
            problems.append(f"{source.name}: {error}")
            if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
                break  # no other source will fare better
    raise InputError(f"{files.name}: {'; '.join(problems)}; {files.advice} in {target}")


def verify(files: Files, folder: Path) -> list[str]:
    """Return what is wrong with the files in a folder, a line each; nothing if all is well."""
    found = [f"{name} is missing" for name in missing(files, folder)]
    for name, expected in files.md5.items():
        path = folder / name
        if expected and path.is_file() and (md5 := digest(path)) != expected:
            found.append(f"{name} has md5 {md5} where {expected} was expected")
    return found


def digest(path: Path) -> str:
    """Return the md5 sum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def download(url: str, folder: Path, name: str, md5: str = "") -> Path:
    """Get a file from its publisher.

    Args:
        url: of the file.
        folder: where it goes.
        name: under which it is kept.
        md5: its sum; '' where what is made of it is checked instead.

    Raises:
        SourceFailed: where there is no answer, or another than the file.
    """
    getter = pooch.HTTPDownloader(progressbar=False, timeout=TIMEOUT)
    pooch.get_logger().setLevel("ERROR")
    try:
        path = pooch.retrieve(url, known_hash=None, fname=name, path=folder, downloader=getter)
        if md5 and (found := digest(Path(path))) != md5:
            raise SourceFailed(f"{name} has md5 {found} where {md5} was expected")
    except requests.HTTPError as error:
        raise SourceFailed(_short(error)) from error
    except requests.RequestException as error:
        raise SourceFailed(f"no answer from {urlsplit(url).hostname}") from error
    return Path(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive.

    Raises:
        SourceFailed: if it is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise SourceFailed(f"{archive.name} is damaged ({_short(error)})") from error


def client(folder: Path, program: str, *arguments: str) -> None:
    """Run a package client in a folder.

    Raises:
        SourceFailed: where it is not installed, or fails.
    """
    found = shutil.which(program)
    if found is None:
        raise SourceFailed(f"{program} is not installed")
    try:
        done = subprocess.run(
            [found, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"no end after {CLIENT_TIMEOUT:.0f} s") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SourceFailed(lines[-1].strip() if lines else f"exit code {done.returncode}")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make a folder next to where the files shall be; it is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
