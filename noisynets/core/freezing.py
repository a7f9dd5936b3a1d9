"""Freezing modules so that they stay frozen."""

from __future__ import annotations

from torch import nn


class _Stays:
    """Takes the place of `module.train`: a frozen module stays in evaluation mode."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        return self.module


def freeze(module: nn.Module) -> nn.Module:
    """Freeze a module: evaluation mode, also after `train()` of a whole system, and no gradients.

    `module.eval().requires_grad_(False)` freezes as well, but `model.train()` puts the module back
    in training mode, and a BatchNorm updates its running statistics again. Copies, and what is
    pickled, stay frozen; `unfreeze` is the way back.

    Args:
        module: any; everything inside is frozen, too.

    >>> net = nn.Sequential(nn.Linear(2, 2), freeze(nn.BatchNorm1d(2))).train()
    >>> net[0].training, net[1].training, net[1].weight.requires_grad
    (True, False, False)
    """
    module.eval().requires_grad_(False)
    for inside in module.modules():
        inside.train = _Stays(inside)  # type: ignore[method-assign]
    return module


def unfreeze(module: nn.Module) -> nn.Module:
    """Put a module in training mode, with gradients, and let `train()` and `eval()` act again.

    >>> unfreeze(freeze(nn.BatchNorm1d(2))).training
    True
    """
    for inside in module.modules():
        vars(inside).pop("train", None)
    return module.requires_grad_(True).train()
