"""Files of a trained run for other programs: weights for torch, and a NIR graph."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from torch import nn

from noisynets.core.errors import InputError
from noisynets.core.extras import extra
from noisynets.core.trial import RollOut
from noisynets.run.session import Session
from noisynets.run.transfer import plain_state, serialised


class Exported(NamedTuple):
    """What a file of a run holds.

    Attributes:
        data: the file.
        summary: what it holds, in one line.
    """

    data: bytes
    summary: str


class NirSettings(NamedTuple):
    """How a NIR graph is written.

    Attributes:
        dt: Δt of a step, in seconds; None: 1e-4.
        approximate: see `to_nir`.
    """

    dt: float | None = None
    approximate: bool = False


def torch_file(session: Session, path: Path, nir: NirSettings) -> Exported:
    """Return the state dict of the plain network, in the format that the name of the file says."""
    state = plain_state(session.system)
    numbers = sum(tensor.numel() for tensor in state.values())
    data = serialised(state, path)
    return Exported(data, f"{len(state)} tensors, {numbers:,} numbers: {', '.join(state)}")


def nir_file(session: Session, path: Path, nir: NirSettings) -> Exported:
    """Return the NIR graph of the plain network.

    Raises:
        InputError: for what NIR cannot describe, naming the module, and another ending than .nir.
        MissingPackages: if nir is not installed.
    """
    from noisynets.systems.nir import DT, to_nir

    with extra("nir", "--to nir"):
        from nir import write
    if path.suffix != ".nir":
        raise InputError(f"{path}: must end with .nir")
    dt = DT if nir.dt is None else nir.dt
    shape = session.task.input_shape
    graph = to_nir(_acting(session.system), shape, dt=dt, approximate=nir.approximate)
    file = io.BytesIO()
    write(file, graph)
    kinds = ", ".join(type(node).__name__ for node in graph.nodes.values())
    told = ", ".join(f"{name} {value}" for name, value in graph.metadata.items())
    return Exported(file.getvalue(), f"{len(graph.nodes)} nodes: {kinds}; metadata: {told}")


def _acting(system: nn.Module) -> nn.Module:
    """Return the network of a system that acts; other systems as they are."""
    return system.network if isinstance(system, RollOut) else system


FORMATS: Mapping[str, Callable[[Session, Path, NirSettings], Exported]] = MappingProxyType(
    {"torch": torch_file, "nir": nir_file}
)
"""(session, file, settings of NIR) → what is written, by the name of the format."""
