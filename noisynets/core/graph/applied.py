"""Digital operations: their adjoints are their own vector-Jacobian products at measured values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
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

        args, kwargs = mapped((self.args, self.kwargs), leaf)
        with torch.inference_mode(False), torch.enable_grad():
            found = self.func(*args, **kwargs)
            made = [found] if isinstance(found, Tensor) else list(found)
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

        self.args, self.kwargs = mapped((self.args, self.kwargs), kept)


def mapped(value: Any, change: Callable[[int, Tensor], Tensor]) -> Any:
    """Return nested arguments with every tensor changed; it is called with the tensor's position.

    >>> mapped(([torch.zeros(1)], 2, torch.ones(1)), lambda i, t: t + i)
    ([tensor([0.])], 2, tensor([2.]))
    """
    position = -1

    def walk(part: Any) -> Any:
        nonlocal position
        if isinstance(part, Tensor):
            position += 1
            return change(position, part)
        if isinstance(part, dict):
            return {name: walk(item) for name, item in part.items()}
        return type(part)(map(walk, part)) if isinstance(part, list | tuple) else part

    return walk(value)


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
