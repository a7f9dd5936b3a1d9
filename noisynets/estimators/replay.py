"""Further passes of a system, which show its own noise and its left-over state.

The system, its random streams and the global ones are left as they were.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noisynets.core.batch import called, first_rows
from noisynets.core.nodes import find_nodes
from noisynets.core.probe import first
from noisynets.core.trees import leaves
from noisynets.core.trial import Stateful, trial
from noisynets.core.types import Effect, Node
from noisynets.core.verify.snapshot import Snapshot, global_streams

ROWS = 256
"""Largest number of rows in which noise is compared."""


@contextmanager
def put_back(system: nn.Module) -> Iterator[None]:
    """Put the system and all random streams back at the end."""
    snapshot, streams = Snapshot(system), global_streams()
    try:
        with torch.no_grad():
            yield
    finally:
        snapshot.restore()
        streams()


class Replay:
    """Context manager: records what enters and leaves the nodes, or replays what entered.

    Args:
        nodes: of the system.
        entered: inputs of every call, by name of the node, that replace those of this pass; None:
            they are recorded.

    Attributes:
        entered: inputs of every call, by name of the node.
        left: activity of the first call, by name of the node.
    """

    def __init__(
        self, nodes: Sequence[Node], entered: dict[str, list[Tensor]] | None = None
    ) -> None:
        self.entered: dict[str, list[Tensor]] = {}
        self.left: dict[str, Tensor] = {}
        self._nodes, self._given = nodes, entered

    def __enter__(self) -> Replay:
        self._handles = []
        for node in self._nodes:
            self._handles += [
                node.inlet.register_forward_pre_hook(self._enters(node.name), with_kwargs=True),
                node.outlet.register_forward_hook(self._leaves(node.name)),
            ]
        return self

    def __exit__(self, *raised: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _enters(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            calls = self.entered.setdefault(name, [])
            if self._given is None:
                calls.append(first(args, kwargs).clone())
                return None
            calls.append(self._given[name][len(calls)])
            if args:
                return (calls[-1], *args[1:]), kwargs
            return args, {**kwargs, next(iter(kwargs)): calls[-1]}

        return hook

    def _leaves(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            self.left.setdefault(name, output.clone())

        return hook


def own_noise(system: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Return differences of the noise that enters at every node between two passes.

    The second pass replaces the inputs of every call by those of the first, so that no noise
    arrives from upstream.

    Args:
        system: with noise of its own.
        inputs: (B, ...), or a tree.

    Returns:
        By name of the node: a(second pass) − a(first pass) in its first call, (B, *out).
    """
    nodes = find_nodes(system)
    with put_back(system):
        with trial(system), Replay(nodes) as one:
            called(system, first_rows(inputs, ROWS))
        with trial(system), Replay(nodes, one.entered) as two:
            called(system, first_rows(inputs, ROWS))
    return {name: two.left[name] - a for name, a in one.left.items() if name in two.left}


Attributes = dict[tuple[str, str], Any]
"""Values of attributes by path of the module and name."""


def batch_first(system: nn.Module, inputs: Any, rows: int, outputs: Any) -> bool:
    """Return False if the first dimension of the outputs does not follow that of the inputs.

    Args:
        system: any module.
        inputs: of all passes, (R, ...), or a tree.
        rows: R.
        outputs: of all passes; looked at if two dimensions of a tensor are R.
    """
    square = [list(t.shape).count(rows) > 1 and len(t) == rows for t in leaves(outputs)]
    if not any(square):
        return True
    with put_back(system), trial(system):
        found = leaves(called(system, first_rows(inputs, rows // 2)))
    lengths = [len(t) if t.dim() else 0 for t in found]
    return len(found) == len(square) and all(
        n == rows // 2 for n, looked_at in zip(lengths, square, strict=True) if looked_at
    )


def left_over(system: nn.Module, inputs: Any) -> list[str]:
    """Return the attributes whose change in one pass changes the outputs of the next.

    Both passes have the same inputs and the same random numbers. States that are reset before
    every trial and those of effects, which are noise with a memory, do not count.

    Args:
        system: any module.
        inputs: of all passes, as the estimator stacks them, (R, ...), or a tree.

    Returns:
        Paths of the attributes, such as 'lif.mem'.
    """
    with put_back(system):
        before = attributes(system)
        outputs = _pass(system, inputs)
        names = [f"{m}.{n}".lstrip(".") for m, n in _changed(before, attributes(system))]
        if not names or _equal(_pass(system, inputs), outputs):
            return []
        modules = dict(system.named_modules())
        for (module, name), value in before.items():
            setattr(modules[module], name, value)
        return names if _equal(_pass(system, inputs), outputs) else []


def attributes(system: nn.Module) -> Attributes:
    """Return the attributes of all modules that may hold a state; tensors are copied."""
    found: Attributes = {}
    for path, module in system.named_modules():
        if isinstance(module, Effect | Stateful):
            continue
        for name, value in {**vars(module), **dict(module.named_buffers(recurse=False))}.items():
            if not name.startswith("_") and isinstance(value, Tensor | int | float | None):
                found[path, name] = value.clone() if isinstance(value, Tensor) else value
    return found


def _changed(before: Attributes, after: Attributes) -> list[tuple[str, str]]:
    """Return what is a tensor after a pass, and was another one or none before it."""
    return [
        key
        for key, value in after.items()
        if isinstance(value, Tensor) and not _equal(before.get(key), value)
    ]


def _pass(system: nn.Module, inputs: Any) -> Any:
    """Return the outputs of a pass with always the same random numbers."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with trial(system):
        return called(system, inputs)


def _equal(one: Any, other: Any) -> bool:
    """Return True if outputs, or attributes, are the same bits."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return type(one) is type(other) and not isinstance(one, Tensor) and bool(one == other)
