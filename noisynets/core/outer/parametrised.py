"""Parametrised layers: weights that are computed from other parameters, as by `weight_norm`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations


def kind_of(layer: nn.Module) -> type:
    """Return the type of a layer, without what a parametrisation changed of it.

    >>> kind_of(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))).__name__
    'Linear'
    """
    return type_before_parametrizations(layer)


def of_originals(layer: nn.Module, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of the parameters from which a layer's weights are computed.

    Weights are computed in software, so that their derivatives are known.

    Args:
        layer: parametrised.
        gradients: of its weights, by name.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 1, bias=False))
    >>> sorted(of_originals(layer, {"weight": torch.ones(1, 2)}))
    ['parametrizations.weight.original0', 'parametrizations.weight.original1']
    """
    found = dict(gradients)
    for name, made in layer.parametrizations.items():  # type: ignore[union-attr,operator]
        gradient = found.pop(name, None)
        if gradient is None:
            continue
        inner = {n: p for n, p in made.named_parameters() if p.requires_grad}
        with _still(made), torch.inference_mode(False), torch.enable_grad():
            parts = torch.autograd.grad(
                made(), list(inner.values()), gradient, allow_unused=True, materialize_grads=True
            )
        found |= {f"parametrizations.{name}.{n}": p for n, p in zip(inner, parts, strict=True)}
    return found


@contextmanager
def _still(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation, in which a spectral norm does not move on, and back."""
    modes = {m: m.training for m in module.modules()}
    try:
        for m in modes:
            m.training = False
        yield
    finally:
        for m, training in modes.items():
            m.training = training
