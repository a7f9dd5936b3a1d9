"""Losses per sample, and the error at the output: ∂loss/∂output, known or measured."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from noisynets.core.batch import one_row, plain, reference
from noisynets.core.errors import InputError
from noisynets.core.pages import Page
from noisynets.core.trees import leaves, mapped, named
from noisynets.core.types import Loss


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(outputs)[target]: outputs (R, classes), targets (R,) → (R,)."""
    return F.cross_entropy(outputs, targets, reduction="none")


def sequence_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """−log softmax(outputs)[target]/T: outputs (R, T, n), targets (R, T) → (R, T).

    Each position has its share of the mean over positions, so that their sum is a row's loss.

    >>> sequence_cross_entropy(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long)).sum(1)
    tensor([1.3863, 1.3863])
    """
    found = F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    return found / targets.shape[1]


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ ‖output − target‖²: outputs (R, ...), targets (R, ...) → (R,).

    Raises:
        InputError: if the shapes differ, because broadcasting would mix rows.
    """
    if outputs.shape != targets.shape:
        raise InputError(
            f"squared_error: outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} "
            "must have one shape",
            page=Page.LOSSES,
        )
    return (outputs - targets).square().flatten(1).sum(1) / 2


def negative_return(outputs: Tensor, targets: Tensor) -> Tensor:
    """−return of an episode: outputs (R, 1) → (R,); the targets are not used."""
    return -outputs[:, 0]


def _cross_entropy_error(outputs: Tensor, targets: Tensor, dimensions: int = 2) -> Tensor | None:
    if (outputs.dim(), targets.dim()) != (dimensions, dimensions - 1):
        return None
    classes = torch.arange(outputs.shape[-1], device=outputs.device)
    error = outputs.softmax(-1) - (classes == targets[..., None]).to(outputs.dtype)
    return error * (targets != IGNORED)[..., None]


def _sequence_error(outputs: Tensor, targets: Tensor) -> Tensor | None:
    error = _cross_entropy_error(outputs, targets, dimensions=3)
    return None if error is None else error / targets.shape[1]


IGNORED = -100
"""Target of rows that cross entropy leaves out."""

DERIVATIVES: dict[Loss, Callable[[Tensor, Tensor], Tensor | None]] = {
    cross_entropy: _cross_entropy_error,
    sequence_cross_entropy: _sequence_error,
    squared_error: lambda outputs, targets: outputs - targets,
}
"""∂loss/∂output (R, ...) of losses with a closed form; None if these shapes have none."""


FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def losses(loss: Loss, outputs: Any, targets: Any, rows: int | None = None) -> Tensor:
    """Evaluate the loss, and sum it over all dimensions but the rows.

    Args:
        loss: see `losses_at`.
        outputs: (R, ...), or a tree.
        targets: (R, ...), or a tree.
        rows: R; None: the length of the targets.

    Returns:
        Losses (R,): floating-point tensors as they are, all other numbers in float64.

    Raises:
        InputError: if the loss failed, was averaged over rows, or is no real number.

    A position counts 0 if the loss is 0 there, as cross entropy is at the target −100:

    >>> words = torch.tensor([[0, -100], [1, 1]])
    >>> losses(cross_entropy, torch.zeros(2, 2, 2), words)
    tensor([0.6931, 1.3863])

    >>> losses(lambda outputs, targets: [1, 0], torch.zeros(2, 3), torch.tensor([0, 1]))
    tensor([1., 0.], dtype=torch.float64)
    >>> losses(F.cross_entropy, torch.zeros(2, 3), torch.tensor([0, 1]))
    Traceback (most recent call last):
    ...
    noisynets.core.errors.InputError: the loss gave shape () for 2 rows: it must return one value \
per row, or per position (R, T, ...), as with reduction='none'; \
noisynets.per_row(loss) makes one of means over rows \
(see docs/how-to/own-systems.md#inputs-targets-and-outputs)
    """
    values = losses_at(loss, outputs, targets, rows)
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def losses_at(loss: Loss, outputs: Any, targets: Any, rows: int | None = None) -> Tensor:
    """Evaluate the loss at every position.

    Args:
        loss: (outputs, targets) → losses, one per row (R,) or per position (R, T, ...): a tensor, a
            NumPy array, or a list of numbers.
        outputs: (R, ...), or a tree.
        targets: (R, ...), or a tree.
        rows: R; None: the length of the targets.

    Returns:
        Losses (R,) or (R, T, ...); see `losses`.

    >>> losses_at(cross_entropy, torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
    tensor([[0.6931, 0.6931]])
    """
    targets = targets if isinstance(targets, Tensor) else plain(targets)
    rows = len(targets) if rows is None else rows
    try:
        values = loss(outputs, targets)
        if not isinstance(values, Tensor) or values.dtype not in FLOATS:
            values = _real(values)
    except (InputError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"the loss failed for outputs {_shape(outputs)} and targets {_shape(targets)}: "
            f"{' '.join(str(error).split())}",
            page=Page.LOSSES,
        ) from error
    if not values.dim() or len(values) != rows:
        raise InputError(
            f"the loss gave shape {tuple(values.shape)} for {rows} rows: it must return one value "
            "per row, or per position (R, T, ...), as with reduction='none'; "
            "noisynets.per_row(loss) makes one of means over rows",
            page=Page.LOSSES,
        )
    device = targets.device if isinstance(targets, Tensor) else leaves((targets, outputs))[0].device
    return values if values.device == device else values.to(device)


def _real(values: Any) -> Tensor:
    """Return losses as a floating-point tensor."""
    if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
        values = torch.stack(list(values))
    elif not isinstance(values, Tensor):
        wide = torch.float64 if isinstance(values, list | tuple | int | float) else None
        values = torch.as_tensor(values, dtype=wide)
    if values.is_complex():
        raise InputError(
            f"the loss gave {values.dtype} numbers: take its real part or modulus", page=Page.LOSSES
        )
    return values if values.dtype in FLOATS else values.double()


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    found = ", ".join(
        f"{path} {tuple(t.shape)}" for path, t in named(value, "") if isinstance(t, Tensor)
    )
    return f"{type(value).__name__} ({found})" if found else type(value).__name__


Errors = tuple[Tensor | None, ...]
"""∂loss/∂output of every tensor of the outputs, (B, ...); None where the loss does not use it."""


class OutputError(Protocol):
    """Gives the error at the output, ∂loss/∂output per sample, from which feedback starts.

    Attributes:
        exact: it is the loss's derivative, not an estimate from δL.
        needs_pairs: it needs noisy passes in every step.
    """

    exact: bool
    needs_pairs: bool

    def __call__(
        self, loss: Loss, outputs: Any, targets: Any, dloss: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Outputs of all passes, targets (B, ...), δL (K, B) → e (B, *out) per output tensor.

        None stands for a tensor that the loss does not use.
        """

    def state(self) -> dict[str, Tensor]:
        """Return what must be saved to continue with the same bits."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""


class KnownError:
    """e = ∂loss/∂output, in closed form or by autograd of the loss alone.

    >>> y = torch.tensor([[1.0, 3.0]])
    >>> KnownError()(squared_error, y, torch.zeros(1, 2), torch.zeros(0, 1))
    (tensor([[1., 3.]]),)
    >>> KnownError()(lambda y, _: y["a"].square().sum(1), {"a": y, "b": y}, None, torch.zeros(0, 1))
    (tensor([[2., 6.]]), None)
    """

    exact, needs_pairs = True, False

    def __call__(
        self, loss: Loss, outputs: Any, targets: Any, dloss: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Outputs of all passes, targets (B, ...), δL (K, B) → e (B, *out) per output tensor.

        Raises:
            InputError: for outputs without rows, or a loss without a derivative.
        """
        passes, batch = 1 + len(dloss), dloss.shape[1]
        found = output_rows(outputs, passes * batch)
        single = isinstance(outputs, Tensor)
        output = outputs[:batch].detach() if single else reference(outputs, batch, passes)
        closed = DERIVATIVES.get(loss) if isinstance(loss, Hashable) else None
        if closed is not None and single and isinstance(targets, Tensor):
            known = closed(output, targets)
            if known is not None:
                return (known,)
        with torch.enable_grad():
            output = mapped(output, _with_derivative)
            try:
                value = losses(loss, output, targets, batch).sum()
            except InputError:  # NumPy takes no tensor that requires its derivative
                value = losses(loss, reference(output, batch, 1), targets, batch).sum()
            if not value.requires_grad:
                raise InputError(
                    "this loss has no derivative: feedback needs error=MeasuredError() "
                    "(--loss-gradient measured)",
                    page=Page.MEASURED_ERROR,
                )
            used = [t for t in leaves(output) if t.requires_grad]
            gradients = dict(
                zip(used, torch.autograd.grad(value, used, allow_unused=True), strict=True)
            )
        errors = tuple(gradients.get(t) for t in leaves(output))
        paths = [path for path, t in named(outputs, "outputs") if isinstance(t, Tensor)]
        for path, whole, error in zip(paths, found, errors, strict=True):
            if whole is None and error is not None:
                raise InputError(
                    f"the loss uses {path}, which has no row per sample: feedback sends no error "
                    "into a number of the whole batch: return one value per row",
                    page=Page.LOSSES,
                )
        return errors

    def state(self) -> dict[str, Tensor]:
        """Return nothing: nothing is learnt."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Do nothing."""


FORGETTING = 0.02
RIDGE = 1e-3


class MeasuredError:
    """e = S⁻¹ mean(δL δy), with S = E[δy δyᵀ] over outputs y: for a loss without a derivative.

    The loss depends on the output alone, so that δL ≈ e·δy whatever made δy: E[δL δy] = S e for
    small symmetric noise. S is a running mean over the pairs. The estimate has one number of
    noise per output, not one per node as a raw rule's.

    >>> torch.manual_seed(0) and None
    >>> e, mix = torch.randn(3), torch.randn(3, 3)
    >>> y = torch.cat([torch.zeros(1, 1, 3), torch.randn(200, 1, 3) @ mix]).flatten(0, 1)
    >>> dloss = (y[1:] @ e).view(200, 1)
    >>> found = MeasuredError()(squared_error, y, torch.zeros(1, 3), dloss)
    >>> bool((found[0] - e).norm() < 0.01 * e.norm())
    True
    """

    exact, needs_pairs = False, True

    def __init__(self) -> None:
        self._moment: Tensor | None = None
        self._weight: Tensor | None = None  # of what has been seen, 1 in the long run

    @torch.no_grad()
    def __call__(
        self, loss: Loss, outputs: Any, targets: Any, dloss: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Outputs of all passes, targets (B, ...), δL (K, B) → e (B, *out); updates S.

        The numbers of all floating-point tensors of the outputs count as one output.
        """
        resamples, batch = dloss.shape
        found = output_rows(outputs, (1 + resamples) * batch)
        parts = [None if t is None else t.unflatten(0, (1 + resamples, batch)) for t in found]
        y = torch.cat([part.flatten(2) for part in parts if part is not None], 2)
        wide = torch.promote_types(y.dtype, torch.float32)  # there is no Cholesky for less
        delta = (y[1:] - y[0]).to(wide)
        flat = delta.flatten(0, 1)
        seen = flat.T @ flat / len(flat)
        if self._moment is None or self._weight is None:
            self._moment, self._weight = torch.zeros_like(seen), seen.new_zeros(())
        sound = seen.isfinite().all()  # a diverged pass teaches nothing
        self._moment = torch.where(sound, self._moment.lerp(seen, FORGETTING), self._moment)
        self._weight = torch.where(
            sound, self._weight.lerp(sound.to(seen), FORGETTING), self._weight
        )
        moment = self._moment / self._weight.clamp_min(torch.finfo(wide).tiny)
        ridge = RIDGE * moment.diagonal().mean() + torch.finfo(wide).tiny
        lower = torch.linalg.cholesky_ex(moment + ridge * torch.eye(len(moment)).to(moment)).L
        estimate = torch.einsum("kb,kbi->ib", dloss.to(wide), delta) / resamples
        error = torch.cholesky_solve(estimate, lower).T.to(y.dtype)
        sizes = [0 if part is None else part[0, 0].numel() for part in parts]
        return tuple(
            None if part is None else e.view_as(part[0]).to(part.dtype)
            for part, e in zip(parts, error.split(sizes, 1), strict=True)
        )

    def state(self) -> dict[str, Tensor]:
        """Return what must be kept to continue with the same bits."""
        if self._moment is None or self._weight is None:
            return {}
        return {"moment": self._moment, "weight": self._weight}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self._moment, self._weight = state.get("moment"), state.get("weight")


def output_rows(outputs: Any, rows: int) -> list[Tensor | None]:
    """Return the tensors of outputs, in order; None for those that no error is sent into.

    Args:
        outputs: of the system.
        rows: of all passes.

    Raises:
        InputError: if no floating-point tensor has the rows of all passes.
    """
    tensors = [outputs] if isinstance(outputs, Tensor) else leaves(outputs)
    found = [t if t.dim() and len(t) == rows and t.is_floating_point() else None for t in tensors]
    if all(t is None for t in found):
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors) or "no tensor"
        raise InputError(
            f"the output has shape {shapes} where all passes have {rows} rows: feedback needs the "
            "batch as its first dimension",
            page=Page.LOSSES,
        )
    return found


def _with_derivative(leaf: Any) -> Any:
    derives = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf.detach().requires_grad_() if derives else leaf


def per_row(loss: Loss, dim: int = 0) -> Loss:
    """Return a loss with one value per row, made of one that knows only the mean over a batch.

    Args:
        loss: (outputs, targets) → one number, which is found row by row; or one value per row,
            which is quicker.
        dim: dimension of the outputs in which this loss expects the rows, 1 for (T, R, ...). In
            the outputs of the system they come first, as `torch.stack(steps, 1)` makes them.

    >>> outputs, targets = torch.eye(3), torch.tensor([0, 0, 2])
    >>> per_row(F.cross_entropy)(outputs, targets)
    tensor([0.5514, 1.5514, 0.5514])
    >>> def of_counts(spikes, targets):  # spikes (T, R, classes), as in snnTorch
    ...     return F.cross_entropy(spikes.sum(0), targets)
    >>> per_row(of_counts, dim=1)(torch.zeros(3, 5, 2), torch.tensor([0, 1, 1])).shape
    torch.Size([3])
    """
    return _PerRow(loss, dim)


@dataclass(frozen=True, eq=False)
class _PerRow:
    loss: Loss
    dim: int

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        rows = len(leaves(outputs)[0])
        values = self._of(outputs, targets)
        if values.numel() != 1 or rows == 1:
            return values.reshape(1) if values.numel() == 1 else values
        parts = [[one_row(tree, rows, row) for tree in (outputs, targets)] for row in range(rows)]
        return torch.stack([self._of(*part).reshape(()) for part in parts])

    def _of(self, outputs: Any, targets: Any) -> Tensor:
        def moved(leaf: Any) -> Any:
            moves = isinstance(leaf, Tensor) and leaf.dim() > self.dim
            return leaf.movedim(0, self.dim) if moves else leaf

        return self.loss(mapped(outputs, moved), targets)
