"""Operations that draw random numbers: which they are, and the modules in which they are made."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.noise import Injection, Source
from noisynets.core.types import Effect, Sealed, Wrapper

HIDDEN = ("random", "random_", "binomial")
"""Operations that draw, although PyTorch does not tag them."""

DISPATCH = ("noisynets.core.", "torch._", "torch.utils.")
"""Modules between an operation and the code that called it."""


def is_random(func: Any) -> bool:
    """Return True for an operator that may draw random numbers.

    >>> is_random(torch.ops.aten.rand.default), is_random(torch.ops.aten.mm.default)
    (True, False)
    """
    name = func.overloadpacket.__name__
    return torch.Tag.nondeterministic_seeded in func.tags or name in HIDDEN


def arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of an operation by name, also those that have their defaults."""
    schema = func._schema.arguments
    given = {a.name: a.default_value for a in schema if a.has_default_value()}
    return given | dict(zip((a.name for a in schema), args, strict=False)) | kwargs


def draws(given: dict[str, Any]) -> bool:
    """Return False for a call of a random operation that draws nothing, as dropout with p = 0.

    Args:
        given: its arguments by name.
    """
    for name in ("training", "train"):
        if given.get(name) is False:
            return False
    return given.get("dropout_p", given.get("dropout", 1)) != 0


def running(known: Container[nn.Module]) -> list[nn.Module]:
    """Return the modules whose methods are running, the innermost first.

    Args:
        known: modules of the system; others are left out.
    """
    found: list[nn.Module] = []
    for _, owner in _frames():
        if isinstance(owner, nn.Module) and owner in known and owner not in found:
            found.append(owner)
    return found


def is_noise(given: dict[str, Any], known: Container[nn.Module], injects: bool) -> bool:
    """Return True for a draw of noise that is injected or declared, or is the system's own.

    Args:
        given: arguments of the operation by name.
        known: modules of the system.
        injects: noise is injected. If not, noise that is not declared is the system's own, unless
            PyTorch's layers and functions draw it.
    """
    modules = running(known)
    if any(isinstance(m, Effect | Sealed) or _is_noisy_wrapper(m) for m in modules):
        return True
    if any(isinstance(owner, Injection) for _, owner in _frames()):
        return True
    owned = any(isinstance(child, Source) for m in modules for child in m.children())
    if owned and given.get("generator") is not None:
        return True
    return not injects and not _by_torch()


def _is_noisy_wrapper(module: nn.Module) -> bool:
    return isinstance(module, Wrapper) and not module.deterministic


def _by_torch() -> bool:
    """Return True if a layer or a function of `torch.nn` carries out the current operation."""
    outside = (name for name, _ in _frames() if not name.startswith(DISPATCH))
    return next(outside, "").startswith("torch.nn.")


class Repeatable:
    """Carries out operations that draw, with the numbers of one seed.

    Args:
        seed: objects of equal seed give equal numbers to an equal sequence of operations.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __call__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what the operation returns."""
        named = [a.name for a in func._schema.arguments]
        tensors = [a for a in args if isinstance(a, Tensor)]
        device = torch.device(kwargs.get("device") or (tensors[0].device if tensors else "cpu"))
        made = torch.Generator(device).manual_seed(self._seed)
        generator = self._generators.setdefault(device, made)
        if "generator" in named and named.index("generator") >= len(args):
            return func(*args, **{**kwargs, "generator": generator})
        with torch.random.fork_rng(_cuda(device)):
            seed = int(torch.randint(2**31, (), generator=generator, device=device))
            torch.manual_seed(seed)
            return func(*args, **kwargs)


def _cuda(device: torch.device) -> list[int]:
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


def _frames() -> Iterator[tuple[str, Any]]:
    """Yield the name of the module and the `self` of every running function, from inside out."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_globals.get("__name__", ""), frame.f_locals.get("self")
        if frame.f_back is None:
            break
        frame = frame.f_back
