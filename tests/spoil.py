"""Ways to damage a file: of its bytes, of what stands in it, and of what stands at its path.

Every function takes a random generator first, so that a case can be repeated from its seed.
"""

import gzip
import io
import json
import lzma
import os
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

Damage = Callable[[random.Random, bytes], bytes]
BOMB = 600 * 2**20
"""Bytes to which a bomb expands."""
MANY = 11_000
"""Files in an archive of too many."""

ODD: tuple[Any, ...] = (
    None, True, False, "no", "3", "", "a\nb", "\x00", "\ud800", "x" * 10_000, "../x", "/dev/zero",
    1.5, -1, 0, 1, 2**31, 2**63, 10**30, 10**400, 1e300, -1e300, float("nan"), float("inf"),
    [], {}, [1], [[1]], [None], {"a": 1}, ["a", 1],
)  # fmt: skip
"""Values that are wrong almost everywhere."""


# --- of the bytes --------------------------------------------------------------------------------


def truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.choice([0, 1, rng.randrange(len(data)), len(data) - 1])]


def flipped(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def overwritten(rng: random.Random, data: bytes) -> bytes:
    start, n = rng.randrange(len(data)), rng.choice([1, 4, 8, 100])
    new = rng.choice([rng.randbytes(n), bytes(n), b"\xff" * n])
    return data[:start] + new + data[start + n :]


def shifted(rng: random.Random, data: bytes) -> bytes:
    """Insert, delete or repeat a piece."""
    start, n = rng.randrange(len(data)), rng.choice([1, 2, 50, 1000])
    piece = data[start : start + n]
    return rng.choice(
        [
            data[:start] + rng.randbytes(n) + data[start:],
            data[:start] + data[start + n :],
            data[:start] + piece + data[start:],
            data + rng.randbytes(n),
        ]
    )


def foreign(rng: random.Random, data: bytes) -> bytes:
    return rng.choice(
        [
            b"",
            b"\x00" * 100,
            rng.randbytes(1000),
            b"PK\x05\x06" + bytes(18),
            b"\x1f\x8b\x08\x00" + rng.randbytes(50),
            b"%PDF-1.4\n",
            "ä€".encode("utf-16"),
            b"{" * 1000,
            gzip.compress(data),
            json.dumps("text").encode(),
        ]
    )


BYTES: tuple[Damage, ...] = (truncated, flipped, flipped, overwritten, shifted, foreign)
"""Damage to any file."""


# --- of the path ---------------------------------------------------------------------------------


def no_file(rng: random.Random, path: Path) -> str:
    """Put something else where a file is expected; returns what."""
    path.unlink()
    what = rng.choice(["nothing", "folder", "pipe", "loop", "link to a device", "link to nothing"])
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "link to a device":
        path.symlink_to(rng.choice(["/dev/zero", "/dev/full", "/dev/null"]))
    elif what == "link to nothing":
        path.symlink_to(path.parent / "nowhere")
    return what


# --- .npz ----------------------------------------------------------------------------------------


def npz(arrays: dict[str, Any], compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def odd_array(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Change type, shape or values of an array."""
    changed = np.array(array, dtype=float)
    if changed.size:
        value = rng.choice([np.nan, np.inf, -np.inf, -1, 1e300, 0.5, 200, 1e12])
        changed.flat[rng.randrange(changed.size)] = value
    kinds: list[Callable[[], Any]] = [
        lambda: changed,
        lambda: array.astype(rng.choice(["O", "c16", "g", "U8", "S3", "?", "f2", ">f8", ">i4"])),
        lambda: array.astype("i8").astype("M8[s]"),
        lambda: np.zeros(len(array), dtype=[("a", "i4"), ("b", "f8", 3)]),
        lambda: array[..., None],
        lambda: array[:1],
        lambda: array[:0],
        lambda: array.ravel(),
        lambda: array.T,
        lambda: array[..., 0] if array.ndim > 1 else array[0],
        lambda: np.zeros_like(array),
        lambda: array + 1,
        lambda: np.array(rng.choice(["text", b"bytes", 3, 1.5, None]), dtype=None),
    ]
    return np.asarray(rng.choice(kinds)())


def odd_npz(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """Change, drop, rename or add an array."""
    found = dict(arrays)
    name = rng.choice(sorted(found))
    kind = rng.choice(["odd", "odd", "odd", "gone", "renamed", "more", "crowd"])
    if kind == "odd":
        found[name] = odd_array(rng, found[name])
    elif kind == "gone":
        del found[name]
    elif kind == "renamed":
        found[f"../{name}"] = found.pop(name)
    elif kind == "more":
        found["further"] = np.array([{"a": 1}], dtype=object)
    else:
        found |= {f"a{i}": np.zeros(1) for i in range(200)}
    return npz(found, rng.random() < 0.5)


def odd_header(rng: random.Random, arrays: dict[str, np.ndarray]) -> bytes:
    """Write an .npz file, one of whose .npy headers lies."""
    chosen = rng.choice(sorted(arrays))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as out:
        for name, array in arrays.items():
            content = npy(array) if name != chosen else _lie(rng, array)
            out.writestr(f"{name}.npy", content)
            if name == chosen and rng.random() < 0.1:
                with _silent():
                    out.writestr(f"{name}.npy", content)  # twice
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array))
    return file.getvalue()


def _lie(rng: random.Random, array: np.ndarray) -> bytes:
    shape = rng.choice(
        ["(10**12,)", "(50000000000,)", "(-1,)", "(-1, -24)", "(1.5,)", "('a',)", "()", "(0,)",
         "(9223372036854775807, 3)", "(True,)", "3", "None", "(2L,)", str(array.shape),
         "(" + "1, " * 70 + ")", "((((" * 500, "(" + "9" * 5000 + ",)"]
    )  # fmt: skip
    descr = rng.choice(
        ["'<f8'", "'|O'", "'<U1000000000'", "'<U0'", "'|V8'", "[('a', '<f8')]", "'<f16'", "'M8[s]'",
         "'>i4'", "''", "7", "('<f8', (3,))", f"'{array.dtype.str}'", f"'{array.dtype.str}'"]
    )  # fmt: skip
    order = rng.choice(["False", "True", "0", "None"])
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text = rng.choice([text] * 8 + ["", "{}", "[" * 3000, text + "\x00", "__import__('os')"])
    head = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    version = rng.choice([b"\x01\x00"] * 6 + [b"\x02\x00", b"\x03\x00", b"\x09\x09"])
    length = rng.choice([len(head)] * 6 + [0, 65535, 5]) & 0xFFFF
    packed = struct.pack("<H" if version == b"\x01\x00" else "<I", length)
    return b"\x93NUMPY" + version + packed + head + np.ascontiguousarray(array).tobytes()


def odd_directory(rng: random.Random, data: bytes) -> bytes:
    """Change one field of an archive's central directory: sizes, flags, method, offset."""
    found = bytearray(data)
    at = data.rfind(b"PK\x01\x02", 0, rng.randrange(len(data)) + 1)
    at = data.find(b"PK\x01\x02") if at < 0 else at
    field, size = rng.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)])
    value = rng.choice(
        [0, 1, 8, 9, 12, 14, 99, 2**16 - 1, 2**31 - 1, 2**32 - 1, rng.getrandbits(32)]
    )
    found[at + field : at + field + size] = (value % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(found)


_deflated: dict[tuple[int, int], bytes] = {}


def zeros(wbits: int) -> bytes:
    """`BOMB` zeros, deflated in the zlib (15), raw (-15) or gzip (31) format."""
    if (wbits, BOMB) not in _deflated:
        packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
        block = bytes(2**20)
        parts = [packer.compress(block) for _ in range(BOMB // len(block))]
        _deflated[wbits, BOMB] = b"".join([*parts, packer.flush()])
    return _deflated[wbits, BOMB]


def zip_bomb(rng: random.Random, name: str, claimed: int | None = None) -> bytes:
    """An archive whose only member expands to `BOMB` zeros, and claims some size."""
    claimed = rng.choice([BOMB, 1000, 2**32 - 1]) if claimed is None else claimed
    raw, label = zeros(-15), name.encode()
    sizes = struct.pack("<III", 0, len(raw), claimed)
    local = b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 8, 0, 0) + sizes
    local += struct.pack("<HH", len(label), 0) + label
    entry = b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", len(label), 0, 0, 0, 0, 0, 0) + label
    start = len(local) + len(raw)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), start, 0)
    return local + raw + entry + end


class _silent:
    """zipfile warns of names that are there twice."""

    def __enter__(self) -> None:
        import warnings

        self.caught = warnings.catch_warnings()
        self.caught.__enter__()
        warnings.simplefilter("ignore")

    def __exit__(self, *given: object) -> None:
        self.caught.__exit__(*given)


# --- .mat ----------------------------------------------------------------------------------------


def mat(rng: random.Random, name: str, array: np.ndarray) -> bytes:
    """A .mat file of some version."""
    file = io.BytesIO()
    form = rng.choice(["4", "5", "5"])
    savemat(file, {name: array}, format=form, do_compression=form == "5" and rng.random() < 0.6)
    return file.getvalue()


def odd_mat(rng: random.Random, name: str, array: np.ndarray) -> bytes:
    """A .mat file with something else in it, or that lies."""
    kind = rng.choice(["value", "value", "array", "name", "inside", "inside", "bomb", "length"])
    file = io.BytesIO()
    if kind == "value":
        other = rng.choice(
            [{"a": array}, ["x", 1], "text", array.astype(complex), array > 0, np.zeros((0, 0)),
             np.array([{"a": 1}, [1, 2]], dtype=object), array.astype("i2"), array[0]]
        )  # fmt: skip
        savemat(file, {name: other}, do_compression=rng.random() < 0.5)
    elif kind == "array":
        changed = odd_array(rng, array)
        savemat(file, {name: changed if changed.dtype.kind in "biuf" else array[:, 1:]})
    elif kind == "name":
        savemat(file, {"other": array})
    elif kind == "inside":  # damage below the compression
        savemat(file, {name: array}, do_compression=False)
        plain = file.getvalue()
        inner = rng.choice(BYTES[:-1])(rng, plain[128:][: rng.choice([100, len(plain)])])
        inner += plain[128 + len(inner) :]
        packed = zlib.compress(inner)
        return plain[:128] + struct.pack("<II", 15, len(packed)) + packed
    else:
        savemat(file, {name: array}, do_compression=False)
        plain = bytearray(file.getvalue())
        if kind == "length":
            at = rng.choice([128, 132, 136, 144, 152, 160, 164, 168, 176, 180])
            value = rng.choice([0, 2**31 - 1, 2**32 - 1, 2**32 - 8, rng.getrandbits(32)])
            plain[at : at + 4] = struct.pack("<I", value)
            return bytes(plain)
        raw = zeros(15)
        return bytes(plain[:128]) + struct.pack("<II", 15, len(raw)) + raw
    return file.getvalue()


# --- JSON and TOML -------------------------------------------------------------------------------


def odd_json(rng: random.Random, data: bytes) -> bytes:
    """Change, drop, repeat or add a value; or change the form of the file."""
    values = json.loads(data)
    name = rng.choice(sorted(values))
    kind = rng.choice(["odd"] * 12 + ["gone", "gone", "more", "twice", "deep", "other", "text"])
    if kind == "odd":
        values[name] = rng.choice(ODD)
    elif kind == "gone":
        del values[name]
    elif kind == "more":
        values[rng.choice(["colour", "", "a\nb", "__class__", "weight_seed"])] = rng.choice(ODD)
    elif kind == "twice":
        return data.replace(b"{", f'{{"{name}": {rng.choice(["1", "null"])},'.encode(), 1)
    elif kind == "deep":
        n, bracket = rng.choice([60, 900, 100_000]), rng.choice(["[", '{"a":'])
        end = "]" if bracket == "[" else "}"
        middle = "1" + end * n if rng.random() < 0.8 else ""
        return f'{{"{name}": {bracket * n}{middle}}}'.encode()
    elif kind == "other":
        return json.dumps(rng.choice(ODD)).encode()
    else:
        text = data.decode()
        return rng.choice(
            [
                text.encode("utf-16"),
                b"\xef\xbb\xbf" + data,
                data + b" " * 2**21,
                data.replace(b"e", b"\xe9"),
                text.replace('"', "'").encode(),
                data.replace(b"null", b"NaN"),
                data.replace(b"null", b"1" * 6000),
            ]
        )
    return json.dumps(values, indent=rng.choice([None, 2])).encode(errors="surrogatepass")


TOML_VALUES = (
    "1", "-1", "0", "1.5", "nan", "inf", "true", '"text"', '""', '"\\u0000"', "[]", "[[1]]", "{}",
    "{ a = 1 }", "[1, 'a']", "1979-05-27", "07:32:00", "0x1F", "'''\na'''",
    "9" * 30, "9" * 5000, "[" * 30 + "]" * 30, "[" * 500 + "]" * 500, "[" * 20_000,
    "{a=" * 200 + "1" + "}" * 200,
)  # fmt: skip


def odd_toml(rng: random.Random, data: bytes) -> bytes:
    """Change, drop, repeat or add a line."""
    lines = data.decode().splitlines()
    at = rng.randrange(len(lines))
    key = lines[at].partition("=")[0].strip(" []") or "name"
    kind = rng.choice(["odd"] * 6 + ["gone", "twice", "table", "more", "dots", "form"])
    if kind == "odd":
        lines[at] = f"{key} = {rng.choice(TOML_VALUES)}"
    elif kind == "gone":
        del lines[at]
    elif kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "table":
        lines.insert(at, rng.choice([f"[{key}]", f"[[{key}]]", "[case]", "[[]]", f"[{key}.a.b]"]))
    elif kind == "more":
        lines.append(
            f"{rng.choice(['colour', 'lr', 'task', 'box', 'data_dir'])} = {TOML_VALUES[7]}"
        )
    elif kind == "dots":
        lines.insert(0, ".".join("a" * rng.choice([60, 2000, 20_000])) + " = 1")
    else:
        text = "\n".join(lines)
        return rng.choice([text.encode("utf-16"), b"\xef\xbb\xbf" + data, data + b"#" * 2**21])
    return "\n".join(lines).encode()


# --- checkpoints ---------------------------------------------------------------------------------


def odd_safetensors(rng: random.Random, data: bytes) -> bytes:
    """Change the header: its length, an entry, the checksum."""
    n = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    kind = rng.choice(["length", "entry", "entry", "no checksum", "no state", "of 0.2", "deep"])
    if kind == "length":
        lie = rng.choice([0, 1, n - 1, n + 1, 2**31, 2**63, 2**64 - 1, 100_000_001])
        return lie.to_bytes(8, "little") + data[8:]
    state = json.loads(header["__metadata__"]["state"])
    tensors = [name for name in header if name != "__metadata__"]
    if kind == "entry" and tensors:
        entry = header[rng.choice(tensors)]
        field = rng.choice(sorted(entry))
        entry[field] = rng.choice([[0, 2**60], [5, 1], "F16", "X9", [-1], [2**40, 2**40], [], 7])
    elif kind == "no checksum":
        state["checksum"] = rng.choice(["", "0" * 64, "f" * 64, None, 3])
    elif kind == "of 0.2":
        state = state["tree"]
    elif kind == "deep":
        state["tree"] = "DEEP"
    text = json.dumps(state).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    header["__metadata__"] = {} if kind == "no state" else {"state": text}
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + body


# --- archives and compressed files ---------------------------------------------------------------


def odd_tar(rng: random.Random, files: dict[str, bytes], bombs: bool = True) -> bytes:
    """A .tar.gz archive with something that must not be unpacked, or that is damaged."""
    kinds = ["bytes", "inside", "name", "link", "device", "size", "many"]
    kind = rng.choice([*kinds, "bomb"] if bombs else kinds)
    if kind == "bomb":
        return zeros(31)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as out:
        for name, content in files.items():
            _add(out, name, content)
        if kind == "name":
            bad = rng.choice(["../escaped", "/tmp/../escaped", "a/../../escaped", "x" * 300, "a\n"])
            _add(out, bad, b"escaped")
        elif kind in ("link", "device"):
            info = tarfile.TarInfo(rng.choice([*files, "other"]))
            info.type = rng.choice(
                [tarfile.SYMTYPE, tarfile.LNKTYPE]
                if kind == "link"
                else [tarfile.CHRTYPE, tarfile.FIFOTYPE]
            )
            info.linkname = rng.choice(["../escaped", "/etc/hostname", *files])
            out.addfile(info)
        elif kind == "many":
            for i in range(MANY):
                out.addfile(tarfile.TarInfo(f"many/{i}"))
    plain = bytearray(file.getvalue())
    if kind == "size":
        plain[124:136] = rng.choice([b"77777777777\0", b"\x80" + bytes(6) + b"\x7f" * 5, b"-1" * 6])
    if kind == "inside":
        return gzip.compress(rng.choice(BYTES)(rng, bytes(plain)), 1)
    packed = gzip.compress(bytes(plain), 1)
    return rng.choice(BYTES)(rng, packed) if kind == "bytes" else packed


def _add(out: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    out.addfile(info, io.BytesIO(content))


def odd_packed(rng: random.Random, data: bytes, suffix: str) -> bytes:
    """Damaged or oversized .gz or .xz bytes."""
    pack = {".gz": lambda d: gzip.compress(d, 1), ".xz": lzma.compress, "": bytes}[suffix]
    kind = rng.choice(["bytes", "bytes", "inside", "bomb", "twice", "dictionary"])
    if kind == "bomb" and suffix == ".gz":
        return zeros(31)
    if kind == "inside":
        return pack(rng.choice(BYTES)(rng, data))
    if kind == "twice":
        return pack(data) * 2
    if kind == "dictionary" and suffix == ".xz":
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**26}]
        return lzma.compress(data, filters=filters)
    return rng.choice(BYTES)(rng, pack(data))


# --- messages of boxes ---------------------------------------------------------------------------


def frame(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def odd_frames(rng: random.Random, greeting: np.ndarray, answer: dict[str, np.ndarray]) -> bytes:
    """A greeting and an answer, one of them damaged."""
    hello, reply = npz({"layers": greeting}), npz(answer)
    kind = rng.choice(["bytes", "bytes", "greeting", "answer", "answer", "length", "header"])
    if kind == "greeting":
        odd = rng.choice(
            [lambda: odd_array(rng, greeting), lambda: -greeting, lambda: greeting * 10**12]
        )()
        hello = npz({rng.choice(["layers", "layers", "layer"]): odd})
    elif kind == "answer":
        reply = odd_npz(rng, answer)
    elif kind == "header":
        reply = odd_header(rng, answer)
    whole = [frame(hello), *[frame(reply)] * 4]
    if kind == "bytes":
        i = rng.randrange(2)
        whole[i] = rng.choice(BYTES)(rng, whole[i])
    elif kind == "length":
        i = rng.randrange(2)
        lie = rng.choice([0, 1, 2**31, 2**40, 2**63, 2**64 - 1, len(whole[i])])
        whole[i] = struct.pack("<Q", lie) + whole[i][8:]
    return b"".join(whole)
