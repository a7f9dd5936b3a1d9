"""Measures networks one after the other, each in a process of its own, and keeps what was found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from noisynets.bench.networks.measure import Found, measure
from noisynets.bench.networks.network import Network
from noisynets.core.errors import InputError
from noisynets.core.reading import parse_json, read_text
from noisynets.run.checkpoint import write_atomically

KEYS = {"network", "steps", "noise", "outcome"}
"""What every result has."""
NOISES = ("none", "intrinsic")
"""No noise of its own: it is injected; or that of the chip that the layers are on."""


def results(path: Path) -> list[Found]:
    """Read what a file of results holds; nothing if there is no file.

    Raises:
        InputError: for a file that is no such file.
    """
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        values = parse_json(line, f"{path}, line {number}")
        if not isinstance(values, dict) or not _is_result(values):
            raise InputError(f"{path}, line {number}: is no result of networks: give another --out")
        found.append(values)
    return found


def _is_result(values: Found) -> bool:
    """Return True if a line of a file holds all that the table needs."""
    return values.keys() >= KEYS and ("least" in values) == ("least_layer" in values)


def missing(
    networks: Sequence[Network], path: Path, steps: int, noise: str, timeout: float
) -> Iterator[Found]:
    """Measure the networks that a file of results does not hold yet, and append what is found.

    Args:
        networks: to measure.
        path: file of the results, a line of JSON for each. A network that is skipped because a
            package is missing is not noted there, so that another environment can measure it.
        steps: calls that teach.
        noise: one of `NOISES`.
        timeout: seconds for each.

    Yields:
        What was found of each, the skipped ones included.
    """
    kept = results(path)
    done = {(found["network"], found["steps"], found["noise"]) for found in kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    for network in networks:
        if (network.name, steps, noise) in done:
            continue
        found = isolated(network, steps, noise, timeout)
        if found["outcome"] != "skipped":
            kept.append(found)
            write_atomically(path, "".join(json.dumps(f) + "\n" for f in kept).encode())
        yield found


def isolated(network: Network, steps: int, noise: str, timeout: float) -> Found:
    """Measure a network in a process of its own, which is ended after `timeout` seconds."""
    start = time.perf_counter()
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(network, steps, noise, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        late = {"outcome": "late", "message": f"took more than {timeout:g} s"}
        found: Any = ours.recv() if ours.poll(timeout) else late
    except EOFError:
        process.join()
        found = {
            "outcome": "crashed",
            "message": f"the process ended with exit code {process.exitcode}",
        }
    finally:
        process.kill()
        process.join()
        ours.close()
    seconds = round(time.perf_counter() - start, 1)
    head = {"network": network.name, "note": network.note, "steps": steps, "noise": noise}
    return {**head, "seconds": seconds, **found}


def _child(network: Network, steps: int, noise: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    pipe.send(measure(network, steps, noise))
