"""`unfused`: a copy of a model in which fused modules are made of layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.core.outer import own_names
from noisynets.systems.unfused.attention import unfused_attention
from noisynets.systems.unfused.cells import unfused_cell
from noisynets.systems.unfused.parts import take_over
from noisynets.systems.unfused.recurrent import unfused_recurrent
from noisynets.systems.unfused.transformer import (
    UnfusedDecoder,
    UnfusedDecoderLayer,
    UnfusedEncoder,
    UnfusedEncoderLayer,
    UnfusedTransformer,
)

MAKERS: dict[type, Callable[[Any], nn.Module | None]] = {
    nn.RNNCell: unfused_cell,
    nn.GRUCell: unfused_cell,
    nn.LSTMCell: unfused_cell,
    nn.RNN: unfused_recurrent,
    nn.GRU: unfused_recurrent,
    nn.LSTM: unfused_recurrent,
    nn.MultiheadAttention: unfused_attention,
}
"""Modules with fused products, and what makes the module in their place."""

CONTAINERS: dict[type, type[nn.Module]] = {
    nn.TransformerEncoderLayer: UnfusedEncoderLayer,
    nn.TransformerDecoderLayer: UnfusedDecoderLayer,
    nn.TransformerEncoder: UnfusedEncoder,
    nn.TransformerDecoder: UnfusedDecoder,
    nn.Transformer: UnfusedTransformer,
}
"""Modules that keep everything that they hold, and are computed in another way."""


def unfused(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose products with weights are all layers of their own.

    Replaced are `nn.RNNCell`, `GRUCell`, `LSTMCell`, `RNN`, `GRU`, `LSTM`, `MultiheadAttention`,
    `TransformerEncoderLayer`, `TransformerDecoderLayer`, `TransformerEncoder`,
    `TransformerDecoder` and `Transformer`, wherever they are. Outputs stay the same, with dropout
    in distribution.

    The copy holds the *same* Parameters and buffers: an optimiser over `model.parameters()` goes on
    working, and after training `model` has the trained weights under its own names, for
    `model.state_dict()`. All other modules are copied; the given model is not changed. A module
    with several references remains one module. Training mode, frozen Parameters and hooks are
    carried over.

    Left as they are: subclasses that define anything but `__init__`, such as a `forward` of their
    own, modules whose `forward` was replaced, and modules with a parametrization, because what they
    compute is not known. `check` names those that cannot be trained.

    Raises:
        InputError: if a module of the model copies its Parameters although it should not.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 4), nn.GRUCell(4, 2))
    >>> made = unfused(model)
    >>> [name for name, m in made.named_modules() if isinstance(m, nn.Linear)]
    ['0', '1.ih', '1.hh']
    >>> made[1].ih.weight is model[1].weight_ih
    True
    >>> bool(torch.allclose(made(torch.ones(5, 3)), model(torch.ones(5, 3)), atol=1e-6))
    True
    """
    modules = list(model.modules())
    memo: dict[int, Any] = {id(t): t for module in modules for t in _tensors(module)}
    blank: list[tuple[nn.Module, Any]] = []
    for module in modules:
        kind = _kind(module)
        if kind in MAKERS:
            made = MAKERS[kind](module)
            if made is not None:
                take_over(made, module)
                memo[id(module)] = made
        elif kind in CONTAINERS or isinstance(module, nn.TransformerDecoderLayer):
            # a decoder layer cannot be copied by deepcopy(): it would lose its activation module
            memo[id(module)] = object.__new__(CONTAINERS[kind] if kind else type(module))
            blank.append((module, memo[id(module)]))
    for module, container in blank:  # only now, as they may hold one another
        vars(container).update(copy.deepcopy(vars(module), memo))
    found = copy.deepcopy(model, memo)
    for module in found.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    _check_shared(model, found)
    return found


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return the tensors that a module itself holds, of any kind."""
    held = [*module._parameters.values(), *module._buffers.values(), *vars(module).values()]
    return [t for t in held if isinstance(t, Tensor)]


def _kind(module: nn.Module) -> type | None:
    """Return the type in the tables above that says what a module computes, if one does."""
    mro = type(module).__mro__
    found = next((c for c in mro if c in MAKERS or c in CONTAINERS), None)
    if found is None or "forward" in vars(module):
        return None
    return None if own_names(type(module), found) else found


def _check_shared(model: nn.Module, found: nn.Module) -> None:
    """Refuse a copy that does not hold exactly the Parameters of the model.

    Raises:
        InputError: naming the Parameters.
    """
    wanted = {id(p): name for name, p in model.named_parameters()}
    held = {id(p): name for name, p in found.named_parameters()}
    if wanted.keys() != held.keys():
        names = [
            name for key, name in {**wanted, **held}.items() if key not in wanted.keys() & held
        ]
        raise InputError(
            f"{', '.join(map(repr, names))}: copied instead of shared, by a __deepcopy__ of the "
            "module that holds it: remove that method, or write the module's products with "
            "nn.Linear"
        )
