"""A box behind pipes that fails on purpose; it knows the protocol alone, and imports no noisynets.

    python faulty_box.py FOLDER

FOLDER/fault.json names a fault, the trial in which it happens, and how many times. Every process
writes its identifier to FOLDER/pids. `box_faults.py` trains on this box.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LAYERS = [[16, 8], [8, 3]]
ROWS = 30
"""Most rows at a time: a step and an evaluation take several trials."""
FOREVER = 1000.0

GOES_ON, REPEATS, STOPS = "goes on", "repeats", "stops"
"""What a trainer does: nothing at all, repeat the trial in a new process, or stop at once."""


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=pickled)
    return file.getvalue()


def npz(arrays: dict[str, np.ndarray], method: int = zipfile.ZIP_STORED) -> bytes:
    return archive({f"{n}.npy": npy(a, pickled=True) for n, a in arrays.items()}, method)


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file.getvalue()


def header(shape: str, kind: str = "<f4", version: bytes = b"\x01\x00") -> bytes:
    """The beginning of an .npy file that claims a shape."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


@dataclass
class Exchange:
    """One trial: what was asked, and the right answer."""

    folder: Path
    trial: int = -1
    answer: dict[str, np.ndarray] = field(default_factory=dict)
    before: dict[str, np.ndarray] = field(default_factory=dict)

    def raw(self, data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def frame(self, body: bytes) -> None:
        self.raw(struct.pack("<Q", len(body)) + body)

    def send(self, **changes: np.ndarray) -> None:
        """Send the answer with some of its arrays changed; None: left out."""
        arrays = {n: a for n, a in (self.answer | changes).items() if a is not None}
        self.frame(npz(arrays))

    def member(self, content: bytes) -> None:
        """Send the answer, with other bytes in place of the activities of layer 0."""
        members = {f"{n}.npy": npy(a) for n, a in self.answer.items()}
        self.frame(archive(members | {"activities0.npy": content}))

    @property
    def whole(self) -> bytes:
        body = npz(self.answer)
        return struct.pack("<Q", len(body)) + body

    def a0(self, value: float) -> np.ndarray:
        """Activities of layer 0 with one other value."""
        a = self.answer["activities0"].astype(np.float64)
        a[3, 2] = value
        return a

    def child(self, *, session: bool = False) -> None:
        """Start a process that keeps the pipes open."""
        code = f"import time; time.sleep({FOREVER})"
        child = subprocess.Popen([sys.executable, "-S", "-c", code], start_new_session=session)
        note(self.folder, child.pid, "daemon" if session else "")


@dataclass(frozen=True)
class Fault:
    """A fault: in place of an answer, after one, or in place of a greeting."""

    name: str
    act: Callable[[Exchange], None]
    outcome: str
    at: str
    hangs: bool


FAULTS: dict[str, Fault] = {}


def fault(outcome: str = REPEATS, *, at: str = "answer", hangs: bool = False) -> Callable:
    def register(act: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
        name = act.__name__.replace("_", " ").strip()
        FAULTS[name] = Fault(name, act, outcome, at, hangs)
        return act

    return register


# ---------------------------------------------------------------------------- ends
@fault()
def ends_with_status_0(e: Exchange) -> None:
    os._exit(0)


@fault()
def ends_with_status_7_and_last_words(e: Exchange) -> None:
    os.write(2, b"the supply broke down\n\x1b[31m")
    os._exit(7)


@fault()
def is_killed(e: Exchange) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@fault()
def has_a_segmentation_fault(e: Exchange) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@fault()
def aborts(e: Exchange) -> None:
    os.abort()


@fault()
def raises_an_exception(e: Exchange) -> None:
    raise RuntimeError("no such channel")


@fault()
def ends_in_the_length(e: Exchange) -> None:
    e.raw(e.whole[:4])
    os._exit(1)


@fault()
def ends_after_the_length(e: Exchange) -> None:
    e.raw(e.whole[:8])
    os._exit(1)


@fault()
def ends_in_the_middle_of_the_answer(e: Exchange) -> None:
    e.raw(e.whole[: len(e.whole) // 2])
    os._exit(1)


@fault(GOES_ON, at="after")
def ends_between_two_trials(e: Exchange) -> None:
    os._exit(1)


@fault(hangs=True)
def ends_and_its_child_holds_the_pipes(e: Exchange) -> None:
    e.child()
    os._exit(1)


@fault(hangs=True)
def ends_and_a_daemon_holds_the_pipes(e: Exchange) -> None:
    e.child(session=True)
    os._exit(1)


# ---------------------------------------------------------------------------- hangs
@fault(hangs=True)
def sleeps(e: Exchange) -> None:
    time.sleep(FOREVER)


@fault(hangs=True)
def sleeps_and_ignores_signals(e: Exchange) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(FOREVER)


@fault(hangs=True)
def sleeps_with_a_child(e: Exchange) -> None:
    e.child()
    time.sleep(FOREVER)


@fault(hangs=True)
def stops_itself(e: Exchange) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@fault(hangs=True)
def computes_for_ever(e: Exchange) -> None:
    while True:
        time.sleep(0)


@fault()
def closes_its_output_and_sleeps(e: Exchange) -> None:
    os.close(1)
    time.sleep(FOREVER)


@fault(hangs=True)
def closes_its_input_and_sleeps(e: Exchange) -> None:
    os.close(0)
    time.sleep(FOREVER)


@fault(hangs=True)
def answers_a_byte_at_a_time(e: Exchange) -> None:
    for byte in e.whole:
        e.raw(bytes([byte]))
        time.sleep(0.05)


@fault(hangs=True)
def sleeps_in_the_middle_of_the_answer(e: Exchange) -> None:
    e.raw(e.whole[:1000])
    time.sleep(FOREVER)


@fault(hangs=True)
def announces_more_than_it_sends(e: Exchange) -> None:
    body = npz(e.answer)
    e.raw(struct.pack("<Q", len(body) + 1) + body)
    time.sleep(FOREVER)


@fault(hangs=True)
def floods_its_errors_and_never_answers(e: Exchange) -> None:
    while True:
        os.write(2, b"overrange! " * 1000)


@fault(at="start", hangs=True)
def greets_never(e: Exchange) -> None:
    time.sleep(FOREVER)


# ---------------------------------------------------------------------------- unusual, and right
@fault(GOES_ON)
def fills_its_errors_first(e: Exchange) -> None:
    for _ in range(1000):
        os.write(2, b"overrange! " * 1000)
    e.send()


@fault(GOES_ON)
def answers_in_pieces(e: Exchange) -> None:
    for i in range(0, len(e.whole), 2000):
        e.raw(e.whole[i : i + 2000])
        time.sleep(0.01)


@fault(GOES_ON)
def big_endian_numbers(e: Exchange) -> None:
    e.send(**{n: a.astype(a.dtype.newbyteorder(">")) for n, a in e.answer.items()})


@fault(GOES_ON)
def double_precision(e: Exchange) -> None:
    e.send(**{n: a.astype(np.float64) for n, a in e.answer.items() if n != "trial"})


@fault(GOES_ON)
def fortran_order(e: Exchange) -> None:
    e.send(**{n: np.asfortranarray(a) for n, a in e.answer.items()})


@fault(GOES_ON)
def compressed(e: Exchange) -> None:
    e.frame(npz(e.answer, zipfile.ZIP_DEFLATED))


@fault(GOES_ON)
def does_not_name_the_trial(e: Exchange) -> None:
    e.send(trial=None)


@fault(GOES_ON)
def sends_more_than_was_asked_for(e: Exchange) -> None:
    e.send(temperature=np.array(21.5))


# ---------------------------------------------------------------------------- frames
@fault()
def an_empty_frame(e: Exchange) -> None:
    e.raw(struct.pack("<Q", 0))


@fault()
def a_length_of_8_EiB(e: Exchange) -> None:
    e.raw(struct.pack("<Q", 2**63) + b"x" * 100)


@fault()
def a_length_of_1_TiB(e: Exchange) -> None:
    e.raw(struct.pack("<Q", 2**40) + b"x" * 100)


@fault()
def a_length_too_short(e: Exchange) -> None:
    body = npz(e.answer)
    e.raw(struct.pack("<Q", len(body) - 1) + body)


@fault()
def text_instead_of_a_message(e: Exchange) -> None:
    e.raw(b"calibrating the reference, please wait\n")


@fault()
def text_before_the_message(e: Exchange) -> None:
    e.raw(b"ok\n" + e.whole)


@fault()
def noise(e: Exchange) -> None:
    e.frame(np.random.default_rng(e.trial).bytes(5000))


@fault()
def zeros(e: Exchange) -> None:
    e.frame(bytes(5000))


@fault()
def a_truncated_file(e: Exchange) -> None:
    e.frame(npz(e.answer)[:-100])


@fault()
def a_file_without_its_beginning(e: Exchange) -> None:
    e.frame(npz(e.answer)[100:])


@fault()
def a_flipped_bit_in_the_numbers(e: Exchange) -> None:
    body = bytearray(npz(e.answer))
    body[600] ^= 16
    e.frame(bytes(body))


@fault()
def a_flipped_bit_in_a_checksum(e: Exchange) -> None:
    body = bytearray(npz(e.answer))
    body[body.index(b"PK\x01\x02") + 16] ^= 1
    e.frame(bytes(body))


@fault()
def an_encrypted_file(e: Exchange) -> None:
    body = bytearray(npz(e.answer))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        body[body.index(mark) + at] |= 1
    e.frame(bytes(body))


@fault()
def an_unknown_compression(e: Exchange) -> None:
    body = bytearray(npz(e.answer))
    for mark, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        body[body.index(mark) + at] = 99
    e.frame(bytes(body))


@fault()
def damaged_compression(e: Exchange) -> None:
    body = bytearray(npz(e.answer, zipfile.ZIP_DEFLATED))
    body[60:80] = bytes(20)
    e.frame(bytes(body))


@fault()
def an_empty_archive(e: Exchange) -> None:
    e.frame(archive({}))


@fault()
def an_archive_of_text(e: Exchange) -> None:
    e.frame(archive({"readme.txt": b"see the manual"}))


@fault()
def gzip_instead_of_zip(e: Exchange) -> None:
    import gzip

    e.frame(gzip.compress(npz(e.answer)))


@fault()
def a_pickle_instead_of_a_file(e: Exchange) -> None:
    e.frame(pickle.dumps(Payload(e.folder)))


@fault()
def a_bomb_of_50_MB(e: Exchange) -> None:
    e.frame(npz(e.answer | {"bomb": np.zeros(50_000_000, np.uint8)}, zipfile.ZIP_DEFLATED))


@fault()
def an_array_that_claims_373_GiB(e: Exchange) -> None:
    e.member(header("(100000000000,)"))


@fault()
def an_array_that_claims_a_negative_size(e: Exchange) -> None:
    e.member(header("(-3, 8)") + bytes(96))


@fault()
def an_array_shorter_than_it_claims(e: Exchange) -> None:
    e.member(npy(e.answer["activities0"])[:-4])


@fault()
def an_array_longer_than_it_claims(e: Exchange) -> None:
    e.member(npy(e.answer["activities0"]) + bytes(4))


@fault()
def an_array_of_an_unknown_format(e: Exchange) -> None:
    e.member(header("(3, 8)", version=b"\x09\x00"))


@fault()
def an_array_with_a_nested_header(e: Exchange) -> None:
    e.member(header("(" * 3000 + ")" * 3000))


@fault()
def an_array_whose_header_is_code(e: Exchange) -> None:
    e.member(header(f"(open({str(e.folder / 'executed')!r}, 'w'),)"))


@fault()
def an_array_without_a_header(e: Exchange) -> None:
    e.member(b"1.0, 2.0, 3.0")


@fault()
def an_array_twice(e: Exchange) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO(npz(e.answer))
        with zipfile.ZipFile(file, "a") as made:
            made.writestr("inputs0.npy", npy(np.zeros((2, 2))))
    e.frame(file.getvalue())


@fault()
def many_thousands_of_arrays(e: Exchange) -> None:
    e.frame(archive({f"x{i}.npy": b"" for i in range(10_500)}))


# ---------------------------------------------------------------------------- values
class Payload:
    """What runs when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return (open, (str(self.folder / "executed"), "w"))


@fault()
def objects(e: Exchange) -> None:
    a = e.answer["activities0"].astype(object)
    a[0, 0] = Payload(e.folder)
    e.send(activities0=a)


@fault()
def text(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].astype(str))


@fault()
def bytes_as_text(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].astype("S"))


@fault()
def structures(e: Exchange) -> None:
    a = e.answer["activities0"]
    e.send(activities0=a.astype([("volts", "<f4"), ("amperes", "<f4")]))


@fault()
def dates(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].astype("datetime64[s]"))


@fault()
def complex_numbers(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].astype(np.complex64))


@fault()
def not_a_number(e: Exchange) -> None:
    e.send(activities0=e.a0(np.nan))


@fault()
def infinity(e: Exchange) -> None:
    e.send(activities0=e.a0(np.inf))


@fault()
def a_value_of_1e300(e: Exchange) -> None:
    e.send(activities0=e.a0(1e300))


# ---------------------------------------------------------------------------- shapes
@fault()
def a_row_too_few(e: Exchange) -> None:
    e.send(activities1=e.answer["activities1"][:-1])


@fault()
def a_row_too_many(e: Exchange) -> None:
    e.send(inputs1=np.concatenate([e.answer["inputs1"], e.answer["inputs1"][:1]]))


@fault()
def no_rows(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"][:0])


@fault()
def rows_and_columns_exchanged(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].T)


@fault()
def a_flat_array(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"].ravel())


@fault()
def a_single_number(e: Exchange) -> None:
    e.send(activities0=np.array(0.5))


@fault()
def three_dimensions(e: Exchange) -> None:
    e.send(activities0=e.answer["activities0"][None])


@fault()
def an_output_of_the_wrong_width(e: Exchange) -> None:
    e.send(output=e.answer["inputs1"])


@fault()
def no_activities(e: Exchange) -> None:
    e.send(activities1=None)


@fault()
def no_inputs(e: Exchange) -> None:
    e.send(inputs0=None)


# ---------------------------------------------------------------------------- protocol
@fault(GOES_ON)
def answers_twice(e: Exchange) -> None:
    e.send()
    e.send()


@fault(GOES_ON)
def answers_twice_without_naming_the_trial(e: Exchange) -> None:
    e.send(trial=None)
    e.send(trial=None)


@fault(GOES_ON)
def a_byte_after_the_answer(e: Exchange) -> None:
    e.raw(e.whole + b"\n")


@fault()
def greets_instead_of_answering(e: Exchange) -> None:
    e.frame(npz({"layers": np.array(LAYERS)}))


@fault()
def answers_the_trial_before(e: Exchange) -> None:
    e.frame(npz(e.before or e.answer | {"trial": np.array(-1)}))


@fault()
def names_another_trial(e: Exchange) -> None:
    e.send(trial=np.array(e.trial + 1))


@fault()
def names_the_trial_by_a_text(e: Exchange) -> None:
    e.send(trial=np.array("the last one"))


@fault()
def names_the_trial_by_a_nan(e: Exchange) -> None:
    e.send(trial=np.array(np.nan))


@fault()
def names_two_trials(e: Exchange) -> None:
    e.send(trial=np.array([e.trial, e.trial]))


@fault()
def says_that_another_trial_failed(e: Exchange) -> None:
    e.frame(npz({"error": np.array("late"), "trial": np.array(e.trial - 1)}))


@fault(GOES_ON, at="after")
def sends_a_message_unasked(e: Exchange) -> None:
    e.frame(npz({"status": np.array("warm")}))


@fault(STOPS)
def says_that_it_failed(e: Exchange) -> None:
    e.frame(npz({"error": np.array("too hot"), "trial": np.array(e.trial)}))


@fault(STOPS)
def says_so_in_many_lines(e: Exchange) -> None:
    lines = "too hot\nnoisynets: all is well\r\x1b[2J\x1b[31m" * 100
    e.frame(npz({"error": np.array(lines)}))


@fault(STOPS)
def says_so_with_a_number(e: Exchange) -> None:
    e.frame(npz({"error": np.array(42)}))


# ---------------------------------------------------------------------------- greetings
def greeting(name: str, **arrays: object) -> None:
    def act(e: Exchange) -> None:
        e.frame(npz({n: np.array(a) for n, a in ({"layers": LAYERS} | arrays).items()}))

    act.__name__ = f"greets_with_{name}"
    fault(at="start")(act)


greeting("no_layers", layers=np.zeros((0, 2)))
greeting("text", layers=[["16", "8"], ["8", "3"]])
greeting("nan", layers=[[16, 8], [8, np.nan]])
greeting("halves", layers=[[16, 8.5], [8.5, 3]])
greeting("negative_sizes", layers=[[16, -8], [-8, 3]])
greeting("a_flat_list", layers=[16, 8, 3])
greeting("a_gap", layers=[[16, 8], [7, 3]])
greeting("other_layers", layers=[[16, 9], [9, 3]])
greeting("layers_that_fit_no_memory", layers=[[2**31, 2**31]])
greeting("no_rows", rows=0)
greeting("rows_that_are_text", rows="thirty")
greeting("rows_that_are_infinite", rows=np.inf)


@fault(at="start")
def greets_without_layers(e: Exchange) -> None:
    e.frame(npz({"hello": np.array("I am a chip")}))


@fault(at="start")
def greets_with_a_line_of_text(e: Exchange) -> None:
    e.raw(b"ACME simulator 3.1, copyright 1987\n")


@fault(at="start")
def ends_at_every_start(e: Exchange) -> None:
    os.write(2, b"the port is in use\n")
    os._exit(3)


@fault(at="start")
def greets_twice(e: Exchange) -> None:
    body = npz({"layers": np.array(LAYERS), "rows": np.array(ROWS)})
    e.frame(body)
    e.frame(body)


# ---------------------------------------------------------------------------- the box itself
def note(folder: Path, pid: int, kind: str = "") -> None:
    with (folder / "pids").open("a") as file:
        file.write(f"{pid} {kind}\n")


def planned(folder: Path, at: str, trial: int) -> Fault | None:
    """The fault that is due now; it is counted."""
    file = folder / "fault.json"
    if not file.is_file():
        return None
    plan = json.loads(file.read_text())
    found = FAULTS[plan["name"]]
    due = found.at == at and plan["left"] > 0 and (at == "start" or trial == plan["trial"])
    if at == "start" and not (folder / "down").exists():
        return None
    if due:
        file.write_text(json.dumps(plan | {"left": plan["left"] - 1}))
    return found if due else None


def ends_first(folder: Path, trial: int) -> bool:
    """True if the process must end in this trial, so that it is started again, with a fault."""
    file = folder / "fault.json"
    if not file.is_file() or (folder / "down").exists():
        return False
    plan = json.loads(file.read_text())
    if FAULTS[plan["name"]].at == "start" and trial == plan["trial"]:
        (folder / "down").touch()
        return True
    return False


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def measured(request: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A perceptron whose noise the trial decides."""
    x, trial = request["x"], int(request["trial"])
    noise, answer = np.random.default_rng(trial), {"trial": np.array(trial)}
    for i in range(len(LAYERS)):
        a = x @ request[f"weight{i}"].T + request[f"bias{i}"]
        a = a + 0.1 * noise.standard_normal(a.shape, dtype=np.float32)
        answer |= {f"inputs{i}": x, f"activities{i}": a}
        x = np.maximum(a, 0)
    return answer


def main(folder: Path, greets: bool = True) -> None:
    note(folder, os.getpid())
    e = Exchange(folder)
    if found := planned(folder, "start", -1):
        found.act(e)
    else:
        e.frame(npz({"layers": np.array(LAYERS), "rows": np.array(ROWS)}))
    answer(e)


def answer(e: Exchange) -> None:
    """Answer trials until the input ends."""
    folder = e.folder
    while True:
        body = read(struct.unpack("<Q", read(8))[0])
        with np.load(io.BytesIO(body)) as file:
            e.before, e.answer = e.answer, measured(dict(file))
        e.trial = int(e.answer["trial"])
        if ends_first(folder, e.trial):
            os._exit(7)
        if found := planned(folder, "answer", e.trial):
            found.act(e)
        else:
            e.send()
        if found := planned(folder, "after", e.trial):
            time.sleep(0.02)  # the answer is read by now
            found.act(e)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
