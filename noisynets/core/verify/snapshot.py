"""The state of a system and of random generators, kept and put back with the same bits."""

from __future__ import annotations

import copy
import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Restore = Callable[[], None]


class Snapshot:
    """What the modules of a system hold besides their parameters.

    These are buffers, attributes, the entries of lists, dictionaries and sets, and what
    `get_extra_state` returns, such as the streams of noise.

    Args:
        system: any module.
    """

    def __init__(self, system: nn.Module) -> None:
        modules = list(system.modules())
        self._attributes = [_attributes(module) for module in modules]
        self._attributes += [_statistics(m) for m in modules if isinstance(m, _NormBase)]
        self._streams = [restore for m in modules for restore in _streams(m)]

    @torch.no_grad()
    def restore(self, streams: bool = True) -> None:
        """Put everything back.

        Args:
            streams: random streams as well.
        """
        for restore in self._attributes:
            restore()
        for restore in self._streams if streams else ():
            restore()


def _attributes(module: nn.Module) -> Restore:
    """Return a function that puts back all attributes of a module, by identity and by value."""
    held = dict(vars(module))
    inside = [put_back for value in held.values() for put_back in _contents(value)]

    def restore() -> None:
        for name in vars(module).keys() - held.keys():
            del vars(module)[name]
        vars(module).update(held)
        for put_back in inside:
            put_back()

    return restore


def _statistics(module: nn.Module) -> Restore:
    """Return a function that puts back running statistics, whose changes PyTorch does not count."""
    held = [(buffer, buffer.clone()) for buffer in module.buffers(recurse=False)]

    def restore() -> None:
        for buffer, kept in held:
            buffer.copy_(kept)

    return restore


def _contents(value: Any) -> list[Restore]:
    """Return functions that put back the contents of a tensor, an array or a container."""
    if isinstance(value, nn.Parameter | nn.Module):
        return []
    if isinstance(value, Tensor):
        return [_tensor(value)]
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and value.shape:
        numbers = value.copy()
        return [lambda: value.__setitem__(..., numbers)]
    if type(value) in (list, deque):
        items = list(value)
        return [partial(_refill, value, items), *(r for item in items for r in _leaf(item))]
    if type(value) in (dict, OrderedDict, defaultdict, set):
        entries = value.copy()
        leaves = entries.values() if isinstance(entries, dict) else ()
        return [partial(_refill, value, entries), *(r for item in leaves for r in _leaf(item))]
    return []


def _leaf(value: Any) -> list[Restore]:
    tensor = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    return [_tensor(value)] if tensor else []


def _refill(container: Any, entries: Any) -> None:
    container.clear()
    (container.extend if isinstance(entries, list) else container.update)(entries)


def _tensor(value: Tensor) -> Restore:
    kept, version = value.detach().clone(), -1 if value.is_inference() else value._version

    def restore() -> None:
        if value.is_inference() or value._version != version:
            value.detach().copy_(kept)

    return restore


def _streams(module: nn.Module) -> list[Restore]:
    """Return functions that put back the random streams of a module."""
    found: list[Restore] = []
    numpy = sys.modules.get("numpy")
    if type(module).get_extra_state is not nn.Module.get_extra_state:
        state = module.get_extra_state()
        found.append(partial(_put_back, module, copy.deepcopy(state)))
    for value in vars(module).values():
        if isinstance(value, torch.Generator):
            found.append(_generator(value))
        elif numpy is not None and isinstance(value, numpy.random.Generator):
            found.append(_numpy(value.bit_generator))
        elif isinstance(value, random.Random):
            found.append(_python(value))
    return found


def _put_back(module: nn.Module, state: Any) -> None:
    now = module.get_extra_state()
    same = torch.equal(now, state) if isinstance(state, Tensor) else now == state
    if not same:
        module.set_extra_state(state)


def _generator(generator: torch.Generator) -> Restore:
    state = generator.get_state()

    def restore() -> None:
        generator.set_state(state)

    return restore


def _numpy(generator: Any) -> Restore:
    state = generator.state
    return lambda: setattr(generator, "state", state)


def _python(generator: Any) -> Restore:
    state = generator.getstate()
    return lambda: generator.setstate(state)


def global_streams() -> Restore:
    """Return a function that puts back the global generators of PyTorch, NumPy and Python."""
    found = [_python(random)]
    cpu = torch.get_rng_state()
    found.append(lambda: torch.set_rng_state(cpu))
    if torch.cuda.is_initialized():
        states = torch.cuda.get_rng_state_all()
        found.append(lambda: torch.cuda.set_rng_state_all(states))
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numbers = numpy.random.get_state()
        found.append(lambda: numpy.random.set_state(numbers))

    def restore() -> None:
        for put_back in found:
            put_back()

    return restore
