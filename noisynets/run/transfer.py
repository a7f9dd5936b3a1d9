"""Weights under the names of a plain network: taken out of a system, and put into one.

A noisy, analog, spiking or decorrelated system wraps the layers of a plain network. Its weights
have here the names that they have there, so that they fit a model without noisynets, and a
system of another family.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.decorrelation import Decorrelated, folded
from noisynets.core.errors import InputError
from noisynets.core.reading import memory, read_bytes, reason
from noisynets.core.types import Physical, Wrapper
from noisynets.run.checkpoint import load_state
from noisynets.run.folder import RunFolder
from noisynets.run.kept import best
from noisynets.run.loggers import check_log
from noisynets.run.session import Session, build
from noisynets.run.settings import Config

SAFE, PICKLED = (".safetensors",), (".pt", ".pth", ".bin")
ADVICE = "give a run folder, or a state dict as .safetensors or .pt"


def begun(config: Config) -> Session:
    """Build the session of a run that begins, with the initial weights that its settings name.

    Raises:
        InputError: for settings that contradict each other, weights that do not fit, or a log whose
            package is not installed.
    """
    check_log(config)
    session = build(config)
    if config.init_from is not None:
        take_(session.system, read_weights(Path(config.init_from)), config.init_from)
    return session


def plain_layers(system: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Yield the modules with weights: name in the plain network, wrapper or itself, layer.

    >>> from noisynets.systems.devices import AdditiveGaussian, Noisy
    >>> net = nn.Sequential(nn.Flatten(), Noisy(nn.Linear(2, 2), AdditiveGaussian(0.1, 0)))
    >>> [(name, type(layer).__name__) for name, _, layer in plain_layers(net)]
    [('1', 'Linear')]
    """
    inner = getattr(system, "network", None)  # of a spiking network, or of one that acts
    if isinstance(inner, nn.Module):
        yield from plain_layers(inner)
        return
    yield from _below("", system)


def _below(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    if isinstance(module, Wrapper):
        yield name, module, module.core[1]
        return
    if isinstance(module, Physical):
        yield from _below(name, module.module)
        return
    if any(True for _ in module.parameters(recurse=False)):
        yield name, module, module
    for child_name, child in module.named_children():
        yield from _below(f"{name}.{child_name}" if name else child_name, child)


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a layer, and the buffers that belong to its state dict."""
    found = layer.state_dict(keep_vars=True)
    below = [f"{name}." for name, _ in layer.named_children()]
    return {
        n: v
        for n, v in found.items()
        if isinstance(v, Tensor) and not any(n.startswith(name) for name in below)
    }


@torch.no_grad()
def plain_state(system: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the plain network, on the CPU.

    The matrices of decorrelated layers are multiplied into the weights.

    Raises:
        InputError: for a decorrelated layer without bias whose inputs are centred.
    """
    found: dict[str, Tensor] = {}
    for name, wrapper, layer in plain_layers(system):
        own = {n: t.detach().cpu().clone() for n, t in _tensors(layer).items()}
        if isinstance(wrapper, Decorrelated):
            own |= folded(name, wrapper, own)
        found |= {f"{name}.{n}" if name else n: t for n, t in own.items()}
    return found


@torch.no_grad()
def take_(system: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Put the weights of a plain network into a system.

    Args:
        system: changed in place.
        state: by the names of the plain network; or by others, if number and shapes agree in
            their order.
        source: of the state, for error messages.

    Raises:
        InputError: if names or shapes differ.
    """
    own = {
        f"{name}.{n}" if name else n: t
        for name, _, layer in plain_layers(system)
        for n, t in _tensors(layer).items()
    }
    in_order = not own.keys() & state.keys() and [t.shape for t in own.values()] == [
        t.shape for t in state.values()
    ]
    given = dict(zip(own, state.values(), strict=True)) if in_order else state
    lacking, strange = [n for n in own if n not in given], [n for n in given if n not in own]
    if lacking or strange:
        words = [f"lacks {_listed(lacking)}"] * bool(lacking)
        words += [f"has {_listed(strange)}, which the system does not have"] * bool(strange)
        raise InputError(f"{source}: {' and '.join(words)}: its layers must be those of the system")
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise InputError(
                f"{source}: {name} has the shape {tuple(given[name].shape)}, in the system "
                f"{tuple(tensor.shape)}: give --hidden, --width and --layers of the weights"
            )
    for name, tensor in own.items():
        tensor.copy_(given[name])


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights under plain names: of a run's result, or from a file.

    Args:
        path: of a run folder, or of a state dict; nothing else is unpickled.

    Raises:
        InputError: if it cannot be read, or contains anything but tensors.
    """
    if path.is_dir():
        folder = RunFolder(path)
        session = build(folder.config("cpu"))
        file = best(folder) if best(folder).is_file() else folder.checkpoint
        try:
            session.system.load_state_dict(load_state(file)["system"])
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{file}: does not fit its config.json: {ADVICE}") from error
        return plain_state(session.system)
    if path.suffix not in SAFE + PICKLED:
        raise InputError(f"{path}: is none of {', '.join(SAFE + PICKLED)}: {ADVICE}")
    data = read_bytes(path, limit=memory() // 4, advice=ADVICE)
    try:
        found = _loaded(data, path.suffix in SAFE)
    except Exception as error:  # safetensors, zipfile and pickle raise errors of many kinds
        unsafe = isinstance(error, pickle.UnpicklingError)
        why = "it is no file of tensors alone" if unsafe else reason(error)
        raise InputError(f"{path}: cannot be read ({why}): {ADVICE}") from error
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path}: is no state dict, names and tensors: {ADVICE}")
    if not all(bool(v.isfinite().all()) for v in found.values()):
        raise InputError(f"{path}: contains NaN or infinity: {ADVICE}")
    return found


def _loaded(data: bytes, safe: bool) -> Any:
    if safe:
        from safetensors.torch import load

        return load(data)
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def serialised(state: dict[str, Tensor], path: Path) -> bytes:
    """Return a state dict as the bytes of a file, of the kind that its ending says.

    Raises:
        InputError: for another ending than .safetensors, .pt or .pth.
    """
    if path.suffix in SAFE:
        from safetensors.torch import save

        return save({name: tensor.contiguous() for name, tensor in state.items()})
    if path.suffix not in (".pt", ".pth"):
        raise InputError(f"{path}: must end with .safetensors, .pt or .pth")
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
