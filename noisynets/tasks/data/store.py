"""Locations of data files: a folder given by the user, or a cache that is filled by downloads.

The sources of a data set are tried one after another. A source's files are accepted only if every
checksum is correct. Files are downloaded to a temporary folder inside the cache and renamed to
their final paths when all are correct, so that a failed or interrupted download leaves the cache
unchanged.
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

from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.reading import amount, expand, opened, reason

TIMEOUT = 60.0  # seconds without data from a server
CLIENT_TIMEOUT = 1800.0  # seconds for one call of a package client
LONGEST = 2**29  # bytes of a download or of an unpacked archive
MEMBERS = 10_000  # files in an archive
DISK = (errno.ENOSPC, errno.EACCES, errno.EROFS)  # errors that every source would meet


class SourceFailed(Exception):
    """Raised by a source that cannot provide the files; the next source is then tried."""


@dataclass(frozen=True)
class Source:
    """One way to obtain the files of a data set.

    Attributes:
        name: name shown to the user.
        make: writes the files into an empty folder; raises `SourceFailed` if it cannot.
    """

    name: str
    make: Callable[[Path], None]


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Attributes:
        name: name of the data set and of its folder in the cache.
        sums: checksums of the uncompressed files, by file name, md5 (32 digits) or SHA-256 (64);
            '' skips the check of that file.
        sources: sources, in the order in which they are tried.
        advice: instruction for placing the files by hand, for error messages.
    """

    name: str
    sums: dict[str, str]
    sources: tuple[Source, ...]
    advice: str


def home() -> Path:
    """Return the cache folder: $NOISYNETS_DATA, or the operating system's cache folder."""
    given = os.environ.get("NOISYNETS_DATA")
    if given:
        return Path(given)
    import pooch

    return Path(pooch.os_cache("noisynets"))


def missing(files: Files, folder: Path) -> list[str]:
    """Return the names of the files that a folder lacks."""
    return [name for name in files.sums if not (folder / name).is_file()]


def locate(files: Files, folder: Path | None) -> Path:
    """Return the folder that contains the files; download them to the cache if necessary.

    Args:
        files: files of the data set.
        folder: folder given by the user; None: the cache.

    Raises:
        InputError: if the user's folder lacks a file, or no source provides the files.
    """
    if folder is not None:
        lacking = missing(files, folder)
        if lacking:
            raise InputError(f"{folder}: no {', '.join(lacking)}: {files.advice}", page=Page.DATA)
        return folder
    return fetch(files)


def fetch(files: Files, say: Callable[[str], None] = lambda line: None) -> Path:
    """Download the files to the cache unless they are there, and return their folder.

    Args:
        files: files of the data set.
        say: called with one line of progress for every source that is tried.

    Raises:
        InputError: if no source provides the files; names every source and its failure.
    """
    target = home() / files.name
    if not missing(files, target):
        return target
    problems = []
    for source in files.sources:
        say(f"{files.name}: trying {source.name}")
        try:
            with _temporary_folder(target) as folder:
                source.make(folder)
                wrong = verify(files, folder)
                if wrong:
                    raise SourceFailed("; ".join(wrong))
                target.mkdir(exist_ok=True)
                for name in files.sums:
                    if (folder / name).is_symlink():
                        raise SourceFailed(f"{name} is a symbolic link")
                    os.replace(folder / name, target / name)
            return target
        except SourceFailed as error:
            problems.append(f"{source.name}: {error}")
        except OSError as error:
            problems.append(f"{source.name}: {error}")
            if error.errno in DISK:
                break  # every other source would fail in the same way
    raise InputError(
        f"{files.name}: {'; '.join(problems)}: {files.advice} in {target}", page=Page.DATA
    )


def verify(files: Files, folder: Path) -> list[str]:
    """Return one line for every missing or altered file of a folder; an empty list if none is."""
    found = [f"{name} is missing" for name in missing(files, folder)]
    for name, expected in files.sums.items():
        path, kind = folder / name, algorithm(expected)
        if expected and path.is_file() and (given := digest(path, kind)) != expected:
            found.append(f"{name} has {kind} {given}, expected {expected}")
    return found


def algorithm(checksum: str) -> str:
    """Return the algorithm of a checksum, by its number of digits.

    >>> algorithm("0" * 32), algorithm("0" * 64)
    ('md5', 'sha256')
    """
    return "sha256" if len(checksum) == 64 else "md5"


def digest(path: Path, algorithm: str = "md5") -> str:
    """Return the checksum of a file.

    Raises:
        InputError: if it cannot be read.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def download(url: str, folder: Path, name: str, md5: str = "") -> Path:
    """Download a file.

    Args:
        url: address of the file.
        folder: folder to which it is written.
        name: file name in that folder.
        md5: expected md5 sum; '' skips the check.

    Returns:
        Path of the file.

    Raises:
        SourceFailed: if the server does not answer, refuses the file, or its md5 sum differs.
    """
    import pooch
    import requests

    def getter(url: str, target: str, _: object) -> None:
        with requests.get(url, stream=True, timeout=TIMEOUT) as answer, open(target, "wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(2**20):
                file.write(piece)
                if file.tell() > LONGEST:
                    raise SourceFailed(f"{name} is longer than {amount(LONGEST)}")

    pooch.get_logger().setLevel("ERROR")
    try:
        path = pooch.retrieve(url, known_hash=None, fname=name, path=folder, downloader=getter)
        if md5 and (found := digest(Path(path))) != md5:
            raise SourceFailed(f"{name} has md5 {found}, expected {md5}")
    except requests.HTTPError as error:
        raise SourceFailed(_short(error)) from error
    except requests.RequestException as error:
        raise SourceFailed(f"no answer from {urlsplit(url).hostname}") from error
    return Path(path)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.gz archive of plain files into a folder.

    Raises:
        SourceFailed: if the archive is damaged, expands to more than `LONGEST` bytes, or has links
            or other members that are no plain files.
    """
    plain = archive.with_name(f"{archive.name}.tar")
    expand_file(archive, plain, ".gz", limit=LONGEST)
    try:
        with tarfile.open(plain, "r:") as tar:
            members = [member for member, _ in zip(tar, range(MEMBERS + 1), strict=False)]
            if len(members) > MEMBERS or not all(m.isreg() or m.isdir() for m in members):
                raise tarfile.TarError("it has other members than some plain files")
            if sum(m.size for m in members) > LONGEST:
                raise tarfile.TarError(f"its files have more than {amount(LONGEST)}")
            tar.extractall(folder, members, filter="data")
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        raise SourceFailed(f"{archive.name} is damaged ({reason(error)})") from error
    finally:
        plain.unlink(missing_ok=True)


def expand_file(source: Path, target: Path, suffix: str, *, limit: int) -> None:
    """Expand a compressed file into a new one.

    Args:
        source: the compressed file.
        target: must not exist yet.
        suffix: as of `expand`.
        limit: bytes of the new file, at most.

    Raises:
        SourceFailed: if the file is damaged, or expands to more.
    """
    try:
        with opened(source) as packed, target.open("xb") as file:
            expand(packed, file, suffix, limit=limit, what=source.name, advice="try another source")
    except InputError as error:
        target.unlink(missing_ok=True)
        raise SourceFailed(f"{source.name} is damaged ({error})") from error


def client(folder: Path, program: str, *arguments: str) -> None:
    """Run a package client, such as npm, with a folder as its working directory.

    Args:
        folder: working directory.
        program: name of the program.
        *arguments: its arguments.

    Raises:
        SourceFailed: if the program is not installed, fails or takes longer than
            `CLIENT_TIMEOUT`.
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
        raise SourceFailed(f"{program} did not finish within {CLIENT_TIMEOUT:.0f} s") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise SourceFailed(lines[-1].strip() if lines else f"exit code {done.returncode}")


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Make an empty folder next to `target`, on the same disk; delete it on exit."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short(error: Exception) -> str:
    """Return the first line of an error's message, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
