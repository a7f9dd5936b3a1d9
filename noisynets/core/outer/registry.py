"""The product credit ⊗ x, by layer type, that of `nn.Linear`, and the sum in `.grad`."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from noisynets.core.errors import SystemRefused
from noisynets.core.outer.parametrised import kind_of, of_originals


@singledispatch
def outer(layer: nn.Module, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    """Σ_b credit_b ⊗ x_b, one entry per parameter of the layer.

    Args:
        layer: its type selects the product; it gives the geometry.
        x: input of the layer, (B, *in).
        credit: of its outputs, already divided by the batch where a mean is wanted, (B, *out).

    Returns:
        Parameter names and their gradients, each of the parameter's shape. Cost: one product
        of the size of the layer's forward pass.

    Raises:
        NotImplementedError: for a layer type without a registered product.

    >>> import torch
    >>> layer = nn.Linear(2, 1)
    >>> outer(layer, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]))["weight"]
    tensor([[3., 6.]])
    """
    raise NotImplementedError(f"no outer product is registered for {type(layer).__name__}")


BY_NAME: dict[str, Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]] = {}
"""Products of layers of other packages, by the full name of the class; registered when met."""


def full_name(kind: type) -> str:
    """Return the name of a class with its module.

    >>> full_name(nn.Linear)
    'torch.nn.modules.linear.Linear'
    """
    return f"{kind.__module__}.{kind.__qualname__}"


HARMLESS = {
    *("__doc__", "__init__", "__module__", "__annotations__", "__annotate_func__", "__dict__"),
    *("__annotations_cache__", "__firstlineno__", "__static_attributes__", "__parameters__"),
    *("__orig_bases__", "__weakref__", "__constants__", "__repr__", "extra_repr"),
    *("_load_from_state_dict", "_save_to_state_dict", "__getstate__", "__setstate__"),
    *("reset_parameters", "__abstractmethods__", "_abc_impl"),
}
"""Names that a subclass of a layer may define without changing what the layer computes."""


def has_outer(layer: nn.Module) -> bool:
    """Return True if a product is registered for the type of `layer`, or holds for it as well.

    >>> class Named(nn.Linear):
    ...     pass
    >>> class Doubled(nn.Linear):
    ...     def forward(self, x):
    ...         return 2 * super().forward(x)
    >>> has_outer(nn.Linear(2, 1)), has_outer(Named(2, 1)), has_outer(Doubled(2, 1))
    (True, True, False)
    """
    if type(layer) in outer.registry:
        return True
    kind = kind_of(layer)
    if kind not in outer.registry and full_name(kind) in BY_NAME:
        outer.register(kind, BY_NAME[full_name(kind)])
    return kind in outer.registry or _inherits(kind)


def _inherits(kind: type) -> bool:
    parent = registered_parent(kind)
    return parent is not None and not overridden(kind, parent)


def registered_parent(kind: type) -> type | None:
    """Return the first type with a registered product among a type and its parents."""
    return next((c for c in kind.__mro__ if c is not object and c in outer.registry), None)


def overridden(kind: type, parent: type) -> list[str]:
    """Return the names that a subclass overrides or puts in the place of a parameter."""
    defined = own_names(kind, parent)
    return [name for name in defined if hasattr(parent, name) or name in ("weight", "bias")]


def own_names(kind: type, parent: type) -> list[str]:
    """Return the names that a subclass defines and that may change what it computes.

    >>> class Named(nn.Linear):
    ...     def __init__(self):
    ...         super().__init__(2, 1)
    ...     def doubled(self, x):
    ...         return self(2 * x)
    >>> own_names(Named, nn.Linear)
    ['doubled']
    """
    between = kind.__mro__[: kind.__mro__.index(parent)]
    defined = [name for c in between if c is not nn.Module for name in vars(c)]
    return [name for name in dict.fromkeys(defined) if name not in HARMLESS]


@outer.register
def _linear(layer: nn.Linear, x: Tensor, credit: Tensor) -> dict[str, Tensor]:
    c = credit.flatten(0, -2)
    return {"weight": c.T @ x.flatten(0, -2), "bias": c.sum(0)}


def accumulate_(
    layer: nn.Module, x: Tensor, credit: Tensor, dtype: torch.dtype | None = None
) -> None:
    """Add credit ⊗ x to `.grad` of each parameter of `layer` that is trained.

    Args:
        layer: as for `outer`.
        x: as for `outer`.
        credit: as for `outer`.
        dtype: of the product; the sum in `.grad` keeps the dtype of `.grad`. None: that of x and
            credit.

    Raises:
        SystemRefused: if `outer` leaves out a parameter.
    """
    if dtype is not None:
        x, credit = x.to(dtype) if x.is_floating_point() else x, credit.to(dtype)
    gradients = outer(layer, x, credit)
    if is_parametrized(layer):
        gradients = of_originals(layer, gradients)
    for name, parameter in layer.named_parameters():
        if not parameter.requires_grad:
            continue
        if name not in gradients:
            kind = type(layer).__name__
            raise SystemRefused(f"outer() of {kind} gives nothing for its parameter {name!r}")
        gradient, before = gradients[name].to(parameter.dtype), parameter.grad
        parameter.grad = gradient if before is None else before.add_(gradient)
