"""Weights moved along directions D, and the shifts of activities that `outer` makes of D."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from noisynets.core.outer import outer
from noisynets.core.types import Node, Wrapper

CHANGE = 0.1
"""Size of a shift, relative to the activity."""

Directions = dict[nn.Parameter, Tensor]


def first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the input of a call, whether it was given by position or by name."""
    value: Tensor = args[0] if args else next(iter(kwargs.values()))
    return value


def movable(node: Node) -> bool:
    """Return True if moving the weights by D moves the activity by D x, as far as is declared.

    A device that acts on the inputs or the weights of a product is declared not to.
    """
    module = node.inlet
    while module is not node.layer:
        if not isinstance(module, Wrapper) or not module.linear:
            return False
        module = module.layer
    if isinstance(node.layer, Wrapper):
        inside = [m for m in node.layer.layer.modules() if isinstance(m, Wrapper)]
        return all(m.linear and m.deterministic for m in inside)
    return True


def shift(layer: nn.Module, x: Tensor, like: Tensor, directions: Directions) -> Tensor:
    """Return s(D, x), by which the activity moves if the weights move by D.

    `outer` is linear in the credit c: <outer(layer, x, c), D> = <c, s>, so that s is the derivative
    with respect to c.

    Args:
        layer: with a registered product.
        x: its input, (R, *in).
        like: its output, (R, *out).
        directions: D of its parameters; 0 where there is none.

    >>> layer = nn.Linear(2, 1)
    >>> D = {layer.weight: torch.tensor([[3.0, 4.0]])}
    >>> shift(layer, torch.tensor([[1.0, 2.0]]), torch.zeros(1, 1), D)
    tensor([[11.]])
    """
    with torch.inference_mode(False), torch.enable_grad():
        credit = torch.zeros(like.shape, dtype=like.dtype, device=like.device, requires_grad=True)
        found = outer(layer, x.detach().clone(), credit)
        terms = [
            (found[name] * directions[p]).sum()
            for name, p in layer.named_parameters()
            if p in directions and name in found
        ]
        total = sum(terms, credit.new_zeros(()))
        if not total.requires_grad:
            return torch.zeros_like(credit.detach())
        (moved,) = torch.autograd.grad(total, credit, allow_unused=True, materialize_grads=True)
    return moved.detach()


class Moves:
    """One direction D for every trained parameter of the nodes, of a size that fits its activity.

    Args:
        nodes: whose parameters are moved.

    Attributes:
        directions: by parameter, once a pass has been made with `measuring` hooks.
        inputs: arguments of the first call of every layer, in that pass.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = [node for node in nodes if movable(node)]
        self.directions: Directions = {}
        self.inputs: dict[nn.Module, tuple[Any, Any]] = {}
        self._generator = torch.Generator().manual_seed(0)

    def without(self, layer: nn.Module) -> None:
        """Leave out a layer."""
        self.nodes = [node for node in self.nodes if node.layer is not layer]
        for parameter in layer.parameters():
            self.directions.pop(parameter, None)

    def measuring(self, pausing: Callable[[], Any]) -> list[RemovableHandle]:
        """Register hooks that choose the directions.

        Args:
            pausing: returns a context in which operations are carried out as they are.
        """

        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            with pausing():
                if layer not in self.inputs:
                    copied = [a.clone() if isinstance(a, Tensor) else a for a in args]
                    self.inputs[layer] = tuple(copied), dict(kwargs)
                self._choose(layer, first(args, kwargs), output)

        return [n.layer.register_forward_hook(hook, with_kwargs=True) for n in self.nodes]

    def _choose(self, layer: nn.Module, x: Tensor, output: Tensor) -> None:
        size = float(output.detach().float().square().mean().sqrt())
        for parameter in layer.parameters():
            if not parameter.requires_grad or parameter in self.directions:
                continue
            draw = torch.randn(parameter.shape, generator=self._generator).to(parameter)
            if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
                draw[layer.padding_idx] = 0  # is never trained
            try:
                moved = shift(layer, x, output, {parameter: draw})
            except (RuntimeError, TypeError, NotImplementedError):
                continue  # a product that autograd cannot follow shows nothing
            effect = float(moved.float().square().mean().sqrt())
            if effect > 0 and effect < float("inf"):
                self.directions[parameter] = draw * (CHANGE * (size or 1.0) / effect)

    def shifting(
        self, chosen: Collection[nn.Parameter] | None, pausing: Callable[[], Any]
    ) -> list[RemovableHandle]:
        """Register hooks that shift the activities.

        Args:
            chosen: parameters whose directions count; None: all.
            pausing: as for `measuring`.
        """
        directions = self._chosen(chosen)

        def hook(layer: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
            with pausing():
                return output + shift(layer, first(args, kwargs), output, directions)

        return [n.layer.register_forward_hook(hook, with_kwargs=True) for n in self.nodes]

    @contextmanager
    def moved(
        self, chosen: Collection[nn.Parameter] | None = None, factor: float = 1.0
    ) -> Iterator[None]:
        """Move the parameters themselves by factor · D, and put their values back at the end."""
        directions = self._chosen(chosen)
        with torch.no_grad():
            kept = {parameter: parameter.detach().clone() for parameter in directions}
            try:
                for parameter, direction in directions.items():
                    parameter.add_(direction, alpha=factor)
                yield
            finally:
                for parameter, value in kept.items():
                    parameter.copy_(value)

    def _chosen(self, chosen: Collection[nn.Parameter] | None) -> Directions:
        if chosen is None:
            return self.directions
        kept = {id(parameter) for parameter in chosen}
        return {p: d for p, d in self.directions.items() if id(p) in kept}

    def is_linear(self, layer: nn.Module) -> bool:
        """Return True if the layer's output follows its weights as its product says.

        To first order, and with the arguments of its first call.
        """
        args, kwargs = self.inputs[layer]
        own = set(map(id, layer.parameters()))
        chosen = [p for p in self.directions if id(p) in own]
        step = 0.01
        ends = []
        for factor in (step, -step):
            with self.moved(chosen, factor), torch.no_grad():
                ends.append(layer(*args, **kwargs).detach().clone())
        directions = {p: self.directions[p] for p in chosen}
        expected = shift(layer, first(args, kwargs), ends[0], directions)
        found = (ends[0] - ends[1]) / (2 * step)
        return bool((found - expected).norm() < 0.05 * expected.norm())
