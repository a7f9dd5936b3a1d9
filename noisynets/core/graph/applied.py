"""Digital operations: their adjoints are their own vector-Jacobian products at measured values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import torch
from torch import Tensor

from noisynets.core.errors import SystemRefused


class Adjoint(Protocol):
    """The adjoint of one operation in one pass."""

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Shapes of the results."""

    def adjoint(self, result: int, credit: Tensor) -> tuple[Tensor, ...]:
        """Return the credit of every live argument, from that of a result, of its shape."""


@dataclass(slots=True)
class Applied:
    """A deterministic operation of PyTorch, with the values on which it was carried out.

    Attributes:
        func: the operation.
        args: its positional arguments.
        kwargs: its other arguments.
        live: positions of the tensors that credit is sent to, among all tensors of the arguments.
        shapes: of its results.

    >>> x = torch.tensor([[3.0, 4.0]])
    >>> product = Applied(torch.ops.aten.mul.Tensor, (x, x), {}, (0, 1), (x.shape,))
    >>> product.adjoint(0, torch.ones(1, 2))
    (tensor([[3., 4.]]), tensor([[3., 4.]]))
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    live: tuple[int, ...]
    shapes: tuple[torch.Size, ...]

    def adjoint(self, result: int, credit: Tensor) -> tuple[Tensor, ...]:
        """Return the credit of every live argument, from that of a result, of its shape."""
        leaves: list[Tensor] = []
        mutates = self.func._schema.is_mutable

        def leaf(position: int, tensor: Tensor) -> Tensor:
            if position not in self.live:
                return tensor.clone() if mutates else tensor
            leaves.append(tensor.detach().requires_grad_())
            return leaves[-1].clone() if mutates else leaves[-1]

        with torch.inference_mode(False), torch.enable_grad():
            args, kwargs = substituted((self.args, self.kwargs), leaf)
            found = self.func(*args, **kwargs)
            made = [found] if isinstance(found, Tensor) else list(found)
            if not made[result].requires_grad:
                raise SystemRefused(
                    f"{self.func}: has no derivative: wrap the module in physical(), so that its "
                    "credit is learned"
                )
            return torch.autograd.grad(
                made[result],
                leaves,
                credit.to(made[result].dtype),
                allow_unused=True,
                materialize_grads=True,
            )

    def keep_before_change(self, storage: int) -> None:
        """Copy the values in a storage that is about to be overwritten."""

        def kept(position: int, tensor: Tensor) -> Tensor:
            same = tensor.untyped_storage()._cdata == storage
            return tensor.detach().clone() if same else tensor

        self.args, self.kwargs = substituted((self.args, self.kwargs), kept)


@dataclass(frozen=True)
class Region:
    """A view of a tensor: where its numbers are.

    Attributes:
        shape: of the view.
        strides: of the view.
        offset: of the view, from the start of the tensor.
        whole: shape of the tensor.
        whole_strides: of the tensor.
    """

    shape: torch.Size
    strides: tuple[int, ...]
    offset: int
    whole: torch.Size
    whole_strides: tuple[int, ...]

    def of(self, tensor: Tensor) -> Tensor:
        """Return the view of a tensor with these strides."""
        return tensor.as_strided(self.shape, self.strides, self.offset)

    def empty(self, like: Tensor) -> Tensor:
        """Return zeros of the tensor's shape and strides."""
        return like.new_empty(0).new_empty_strided(self.whole, self.whole_strides).zero_()


@dataclass(frozen=True)
class Overwritten:
    """A tensor of which a view was overwritten.

    Attributes:
        region: that was overwritten.
        kept: the tensor held something made of activities before.
        written: what was written is made of activities.

    >>> region = Region(torch.Size([1]), (1,), 1, torch.Size([3]), (1,))
    >>> Overwritten(region, True, True).adjoint(0, torch.tensor([1.0, 2.0, 3.0]))
    (tensor([1., 0., 3.]), tensor([2.]))
    """

    region: Region
    kept: bool
    written: bool

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Shape of the tensor."""
        return (self.region.whole,)

    def adjoint(self, result: int, credit: Tensor) -> tuple[Tensor, ...]:
        """Return the credit of what was there before, and of what was written."""
        left = self.region.empty(credit).copy_(credit)
        part = self.region.of(left)
        taken = part.clone()
        part.zero_()
        return (left,) * self.kept + (taken,) * self.written


@dataclass(frozen=True)
class Seen:
    """A view that was taken before its tensor was overwritten.

    Attributes:
        region: that the view shows.
    """

    region: Region

    @property
    def shapes(self) -> tuple[torch.Size, ...]:
        """Shape of the view."""
        return (self.region.shape,)

    def adjoint(self, result: int, credit: Tensor) -> tuple[Tensor, ...]:
        """Return the credit of the whole tensor."""
        spread = self.region.empty(credit)
        self.region.of(spread).copy_(credit)
        return (spread,)


def substituted(value: Any, change: Callable[[int, Tensor], Tensor]) -> Any:
    """Return nested arguments with every tensor changed; it is called with the tensor's position.

    >>> substituted(([torch.zeros(1)], 2, torch.ones(1)), lambda i, t: t + i)
    ([tensor([0.])], 2, tensor([2.]))
    """
    return _substituted(value, count(), change)


def _substituted(
    part: Any, positions: Iterator[int], change: Callable[[int, Tensor], Tensor]
) -> Any:
    """Change one part; a function inside `substituted` would refer to itself, and to tensors."""
    if isinstance(part, Tensor):
        return change(next(positions), part)
    if isinstance(part, dict):
        return {name: _substituted(item, positions, change) for name, item in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(_substituted(item, positions, change) for item in part)
    return part


def whole(credit: Tensor, shape: Sequence[int]) -> Tensor:
    """Return credit of the reference rows as credit of the rows of all passes, 0 in the others.

    Args:
        credit: (B, ...), or already of the shape.
        shape: (rows, ...).
    """
    if credit.shape == torch.Size(shape):
        return credit
    padded = credit.new_zeros(shape)
    padded[: len(credit)] = credit
    return padded
