"""Traces of passes, and their comparison call by call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.trees import leaves

FEATURES, CALLS = 1024, 16
"""Numbers of a row that are kept, evenly spread, and first calls of a module, at most."""

SHARE = 0.2
"""Of the rows must differ: a hard unit at its threshold may turn rounding into a change."""


@dataclass(frozen=True)
class Call:
    """What entered a module and left it in one call, row by row.

    Attributes:
        name: path of the module.
        module: that was called; None: the loss.
        entered: tensors with one row per sample, (rows, features); empty in place of others.
        left: the same of its output.
    """

    name: str
    module: nn.Module | None
    entered: tuple[Tensor, ...]
    left: tuple[Tensor, ...]

    def picked(self, pick: Callable[[Tensor], Tensor]) -> Call:
        """Return the call with other rows."""
        entered, left = (
            tuple(pick(t) if t.numel() else t for t in part) for part in (self.entered, self.left)
        )
        return Call(self.name, self.module, entered, left)


Trace = list[Call]
"""The calls of a pass, in the order in which they ended."""


class Recorder:
    """Forward hooks that record the calls of modules.

    Args:
        modules: with their paths.
        rows: of the batch; tensors of another length are left out.
    """

    def __init__(self, modules: Iterable[tuple[str, nn.Module]], rows: int) -> None:
        self.trace: Trace = []
        self._watched, self._rows = list(modules), rows
        self._entered: list[tuple[Tensor, ...] | None] = []
        self._calls: Counter[nn.Module] = Counter()

    def register(self) -> list[RemovableHandle]:
        """Register the hooks, behind those that change an output; the caller removes them."""
        handles = []
        for name, module in self._watched:
            handles.append(module.register_forward_pre_hook(self._enters, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leaves(name)))
        return handles

    def loss(self, outputs: Any, values: Tensor) -> None:
        """Record the loss as a last call."""
        self.trace.append(Call("", None, self._kept(outputs), self._kept(values.unsqueeze(1))))

    def _enters(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._calls[module] += 1
        recorded = self._calls[module] <= CALLS
        self._entered.append(self._kept((args, kwargs)) if recorded else None)

    def _leaves(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            entered = self._entered.pop()
            if entered is not None:
                self.trace.append(Call(name, module, entered, self._kept(output)))

        return hook

    def _kept(self, value: Any) -> tuple[Tensor, ...]:
        return tuple(
            _features(t.detach()) if t.dim() and len(t) == self._rows else torch.empty(0)
            for t in leaves(value)
        )


def _features(tensor: Tensor) -> Tensor:
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = tensor.flatten(1) if tensor.dim() > 1 else tensor.unsqueeze(1)
    step = -(-flat.shape[1] // FEATURES)
    kept = flat[:, :: max(step, 1)]
    return kept.clone() if kept.is_floating_point() else kept.double()


@dataclass(frozen=True)
class Comparison:
    """Two traces that should be equal.

    Attributes:
        one: a trace.
        other: the other.
        changed: a trace that shows how much the cause of a difference changes every tensor.
        plain: a trace from which `changed` is counted, of the same rows.
        control: the `other`, with activities changed by their rounding errors: differences as small
            as those that this makes say nothing. None: not needed.
    """

    one: Trace
    other: Trace
    changed: Trace
    plain: Trace
    control: Trace | None = None

    def culprits(self) -> Iterator[Call]:
        """Return the calls whose inputs agree and whose outputs do not, in order."""
        return (call for call, entered, left in self._calls() if left and not entered)

    def differs(self) -> bool:
        """Return True if the traces differ anywhere."""
        return any(entered or left for _, entered, left in self._calls())

    def _calls(self) -> Iterator[tuple[Call, bool, bool]]:
        """Return every call with what differs: its inputs, its outputs."""
        traces = [self.one, self.other, self.changed, self.plain, self.control or self.other]
        for one, other, changed, plain, control in zip(*traces, strict=False):
            if len({call.name for call in (one, other, changed, plain, control)}) > 1:
                return  # the calls depend on the values: what follows cannot be compared
            found = []
            for part in ("entered", "left"):
                tensors = [getattr(call, part) for call in (one, other, changed, plain, control)]
                groups = [group for group in zip(*tensors, strict=False) if _alike(group)]
                found.append(any(self._differ(*group) for group in groups))
            yield one, found[0], found[1]

    def _differ(self, a: Tensor, b: Tensor, changed: Tensor, plain: Tensor, c: Tensor) -> bool:
        if not a.numel():
            return False
        rows, eps = _rms(a - b), epsilon(a)
        scale, size = _size(changed - plain), _size(b)
        far = rows > tolerance(eps) * scale + 16 * eps * size
        if float(far.float().mean()) <= SHARE:
            return False
        return self.control is None or bool(_size(a - b) > 20 * _size(b - c))


def _alike(group: Sequence[Tensor]) -> bool:
    one, other, changed, plain, control = (t.shape for t in group)
    return one == other == control and changed == plain


def _rms(rows: Tensor) -> Tensor:
    """Root mean square of every row; 0 for rows that are not finite."""
    return rows.square().mean(1).sqrt().nan_to_num(0, 0, 0)


def _size(tensor: Tensor) -> Tensor:
    return _rms(tensor).square().mean().sqrt()


def epsilon(tensor: Tensor) -> float:
    """Relative rounding error of products in the dtype of a tensor, on its device."""
    eps = float(torch.finfo(tensor.dtype).eps)
    tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    return max(eps, 1e-3) if tensor.is_cuda and tf32 and tensor.dtype == torch.float32 else eps


def tolerance(eps: float) -> float:
    """Relative difference that rounding may make of a change, over many layers.

    >>> tolerance(torch.finfo(torch.float64).eps)
    1e-06
    """
    return max(1e-6, 1e4 * eps) if eps < 1e-5 else 0.2
