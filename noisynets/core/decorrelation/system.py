"""Decorrelation of a whole system, and its updates."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from torch import nn

from noisynets.core.decorrelation.layers import Decorrelated, Settings, decorrelated
from noisynets.core.errors import SystemRefused
from noisynets.core.record import NodeRecord
from noisynets.core.types import Wrapper


def decorrelate(system: nn.Module, **settings: Unpack[Settings]) -> nn.Module:
    """Return a copy of `system` with every trained Linear and Conv2d (groups=1) decorrelated.

    The given system, frozen layers and other layer types are left unchanged. Create the optimiser
    from the parameters of the returned copy. See `Decorrelated` for the settings.

    Raises:
        SystemRefused: if there is no layer to decorrelate.

    >>> net = decorrelate(nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1)))
    >>> [name for name, _ in decorrelations(net)]
    ['0', '2']
    """
    decorrelated_system = _replaced(copy.deepcopy(system), {}, settings)
    if not decorrelations(decorrelated_system):
        raise SystemRefused("nothing to decorrelate: no trained Linear or Conv2d with groups=1")
    return decorrelated_system


def _replaced(
    module: nn.Module, wrapped: dict[nn.Module, nn.Module], settings: Mapping[str, Any]
) -> nn.Module:
    """Return the decorrelated form of a layer, or a module whose layers were replaced in place.

    Args:
        module: layer or system.
        wrapped: decorrelated form of every layer that was met before.
        settings: of `Decorrelated`.
    """
    core = module.core[1] if isinstance(module, Wrapper) else module
    plain = isinstance(core, nn.Linear | nn.Conv2d) and getattr(core, "groups", 1) == 1
    if plain and any(p.requires_grad for p in core.parameters()):
        if any(isinstance(m, Decorrelated) for m in module.modules()):
            return module
        return wrapped.setdefault(module, decorrelated(module, **settings))
    for name, child in list(module._modules.items()):  # named_children() skips repetitions
        if child is not None:
            module.add_module(name, _replaced(child, wrapped, settings))
    return module


def decorrelations(system: nn.Module) -> list[tuple[str, Decorrelated]]:
    """Return the decorrelated layers of a system, with their paths."""
    return [(n, m) for n, m in system.named_modules() if isinstance(m, Decorrelated)]


def learn_(calls: Iterable[NodeRecord]) -> None:
    """Update R in every decorrelated layer, once per recorded call."""
    for call in calls:
        for module in call.node.inlet.modules():
            if isinstance(module, Decorrelated):
                module.update_(call.raw)


def unstable(system: nn.Module) -> list[str]:
    """Return the paths of layers that skipped an update of R; synchronises the device.

    >>> import torch
    >>> net = decorrelate(nn.Sequential(nn.Linear(3, 2)), rate=1e6)
    >>> net[0].update_(torch.randn(9, 3))
    >>> unstable(net), bool(net[0].R.isfinite().all())
    (['0'], True)
    """
    return [name for name, module in decorrelations(system) if bool(module.unstable)]
