"""The guarded readers: sizes, kinds of files, nesting, and what NumPy and SciPy are given."""

import gzip
import io
import lzma
import os
import random
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import spoil
from scipy.io import savemat
from spoil import npz

from noisynets.core.arrays import read_npz
from noisynets.core.errors import InputError
from noisynets.core.reading import expanded, parse_json, read_bytes, read_json, read_toml
from noisynets.tasks.data import store
from noisynets.tasks.data.matlab import read_matrix
from noisynets.tasks.data.store import SourceFailed


def quick_xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "Is a directory"),
        (os.mkfifo, "is a pipe or a device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (lambda path: path.write_bytes(bytes(11)), "longer than 10 bytes"),
    ],
    ids=["nothing", "folder", "pipe", "device", "loop", "long"],
)
def test_only_short_regular_files_are_read(make, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    make(path)
    with pytest.raises(InputError, match=words) as error:
        read_bytes(path, limit=10)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "Expecting"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 51 + b"]" * 51, "nested more than 50"),
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "'a' is there twice"),
        ("{}".encode("utf-16"), "can't decode"),
        (b"1" * 5000, "4300"),
    ],
    ids=["cut", "deep", "less deep", "twice", "encoding", "digits"],
)
def test_json_that_cannot_be_used_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(error.value) and "a.json" in str(error.value)


def test_toml_may_be_nested_and_marked_but_not_deeply(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbfa.b = [[1]]")
    assert read_toml(path) == {"a": {"b": [[1]]}}
    for text in (
        "a = " + "[" * 5000,
        ".".join("a" * 60) + " = 1",
        ".".join("a" * 9000) + "=1",
        "a = 1\na = 2",
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=r"a\.toml: "):
            read_toml(path)
    assert parse_json("[" * 50 + "]" * 50, "a")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", quick_xz)])
def test_expansion_is_bounded_in_memory_and_result(suffix: str, pack) -> None:
    packed = pack(bytes(2**24))
    tracemalloc.start()
    with pytest.raises(InputError, match="expands to more than 1 MiB"):
        expanded(packed, suffix, limit=2**20, what="a", advice="restore it")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
    plain = random.Random(0).randbytes(3000) * 2
    assert expanded(pack(plain), suffix, limit=6000, what="a", advice="") == plain
    for cut in (0, 3, 20, len(pack(plain)) - 1):
        with pytest.raises(InputError, match="a: cannot be read"):
            expanded(pack(plain)[:cut] or b"\x00", suffix, limit=9000, what="a", advice="")


def test_arrays_keep_their_values_and_get_native_types() -> None:
    given = {
        "a": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
        "big": np.arange(3, dtype=">i8"),
        "half": np.ones(2, "f2"),
        "yes": np.array([True, False]),
        "text": np.array("an error"),
        "none": np.zeros((0, 4)),
    }
    for compressed in (False, True):
        found = read_npz(npz(given, compressed), limit=10**4, what="a")
        assert found.keys() == given.keys()
        for name, array in found.items():
            assert np.array_equal(array, given[name]) and array.shape == given[name].shape
            assert array.dtype == given[name].dtype.newbyteorder("=") and array.dtype.isnative
            assert array.flags.writeable and array.flags.aligned
    assert list(read_npz(npz(given), limit=10**3, what="a", names=["big"])) == ["big"]


@pytest.mark.parametrize(
    "array",
    [
        np.array([{"a": 1}], dtype=object),
        np.zeros(2, dtype=[("a", "i4")]),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype="c16"),
        np.zeros(2, dtype="g"),
        np.zeros(2, dtype="V3"),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_other_things_than_plain_numbers_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="a: not a readable .npz file .'x' has the type"):
        read_npz(npz({"x": array}), limit=10**6, what="a")


def test_arrays_that_claim_more_than_they_hold_take_no_memory(monkeypatch) -> None:
    monkeypatch.setattr(spoil, "BOMB", 2**20)
    for data, limit, words in (
        (
            spoil.odd_header(_Lies("(50000000000,)"), {"x": np.zeros(9)}),
            2**20,
            "header claims",
        ),
        (
            spoil.zip_bomb(random.Random(0), "x.npy", 2**31),
            2**31,
            "2 GiB, which it cannot hold",
        ),
        (npz({"x": np.zeros(10**6)}, compressed=True), 2**20, "it claims 7.63 MiB, more than"),
    ):
        tracemalloc.start()
        with pytest.raises(InputError, match=words):
            read_npz(data, limit=limit, what="a")
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


def test_matrices_are_read_and_bombs_are_not(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(20, 28))
    path = tmp_path / "a.mat"
    for form, packed in (("4", False), ("5", False), ("5", True)):
        savemat(path, {"other": 1, "a": array}, format=form, do_compression=packed)
        assert np.array_equal(read_matrix(path, "a", limit=10**6, advice=""), array)
        with pytest.raises(InputError, match="no matrix 'b'"):
            read_matrix(path, "b", limit=10**6, advice="")
    savemat(path, {"a": np.zeros((10**5, 10))}, do_compression=True)
    assert path.stat().st_size < 10**5
    with pytest.raises(InputError, match="expands to more than 977 KiB"):
        read_matrix(path, "a", limit=10**6, advice="")
    for value in ([{"a": 1}], "text", array > 0):
        savemat(path, {"a": value})
        with pytest.raises(InputError, match=r"a\.mat: cannot be read"):
            read_matrix(path, "a", limit=10**6, advice="")


def test_a_crash_of_scipy_is_an_error_in_one_line(tmp_path: Path, monkeypatch) -> None:
    """Some damaged files make it crash; a program that always does takes its place here."""
    savemat(tmp_path / "a.mat", {"a": np.ones((2, 2))})
    program = tmp_path / "crash"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(InputError, match=r"a\.mat: cannot be read \(SciPy crashed on it\)"):
        read_matrix(tmp_path / "a.mat", "a", limit=10**6, advice="")


def test_archives_with_anything_but_plain_files_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "MEMBERS", 50)
    monkeypatch.setattr(spoil, "MANY", 60)
    files = {"inside/train.bin": b"a" * 5000, "inside/test.bin": b"b"}
    (tmp_path / "escaped").write_text("mine")
    refused = 0
    for seed in range(24):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rng = random.Random(seed)
        (folder / "a.tgz").write_bytes(spoil.odd_tar(rng, files, bombs=False))
        try:
            store.unpack(folder / "a.tgz", folder)
        except SourceFailed as error:
            refused += 1
            assert "\n" not in str(error)
        assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert refused > 15 and (tmp_path / "escaped").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.isdigit()) == ["escaped"]


class _Lies(random.Random):
    """Chooses one shape for the header, and whatever comes first elsewhere."""

    def __init__(self, shape: str) -> None:
        super().__init__(0)
        self.shape = shape

    def choice(self, options):
        return self.shape if self.shape in options else options[0]


def test_an_archive_may_hold_plain_files(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as out:
        info = tarfile.TarInfo("inside/a.bin")
        info.size = 3
        out.addfile(info, io.BytesIO(b"abc"))
    (tmp_path / "a.tgz").write_bytes(packed.getvalue())
    store.unpack(tmp_path / "a.tgz", tmp_path)
    assert (tmp_path / "inside" / "a.bin").read_bytes() == b"abc"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz", "inside"]
