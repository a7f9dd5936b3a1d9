"""What people do who have a model of their chip: train the model, or send credit back through it.

They are baselines: all of them read the weights, and take derivatives of the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from noisynets.core.errors import InputError
from noisynets.core.nodes import find_nodes
from noisynets.systems.blackbox.module import BlackBox, Socket
from noisynets.systems.blackbox.tiles import Distortions


def tied(model: nn.Module, sockets: list[Socket]) -> nn.Module:
    """Give the layers of a model the weights of a box, from the inputs to the output.

    Raises:
        InputError: if they do not fit.

    >>> socket = Socket(3, 2)
    >>> model = tied(nn.Sequential(nn.Linear(3, 2)), [socket])
    >>> model[0].weight is socket.weight
    True
    """
    layers = [node.layer for node in find_nodes(model)]
    shapes = [layer.get_parameter("weight").shape for layer in layers]
    expected = [socket.weight.shape for socket in sockets]
    if shapes != expected:
        given = ", ".join(str(tuple(shape)) for shape in shapes)
        raise InputError(
            f"the model has weights of shapes {given} where the box has "
            f"{', '.join(str(tuple(shape)) for shape in expected)}"
        )
    for layer, socket in zip(layers, sockets, strict=True):
        for name, parameter in socket.named_parameters():
            layer.register_parameter(name, parameter)
    return model


def believed(box: nn.Module) -> nn.Module:
    """Return the model of a box.

    Raises:
        InputError: if this is no box, or nobody knows.
    """
    if not isinstance(box, BlackBox) or box.model is None:
        raise InputError(
            f"{type(box).__name__}: has no model apart from itself: train it with bp, or a box "
            "without a model with mirrored"
        )
    return box.model


class Aware(nn.Module):
    """The model of a box, with distortions drawn anew in every pass: hardware-aware training.

    Of the sizes that the chip's have: errors of the weights, stuck weights and read noise, as
    aihwkit has them when it trains before a chip is programmed (Rasch et al., *Hardware-aware
    training for large-scale and diverse deep learning inference workloads using in-memory
    computing-based accelerators*, 2023). Converters are left out: rounding has no derivative.

    Args:
        box: with a model.
        nodes: gains and offsets of the nodes are drawn, too: then all kinds of distortions are
            there that the chip has, as in domain randomisation (Tobin et al. 2017).
        seed: of what is drawn.
    """

    def __init__(self, box: nn.Module, nodes: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.model = believed(box)
        assert isinstance(box, BlackBox)
        self._nodes = nodes
        self._box, self._seed = (box,), seed  # its weights are those of the model

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) → (B, outputs)."""
        (box,) = self._box
        d = box.expected or Distortions()
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + box.modelled)
        box.modelled += 1

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator).to(like)

        moved: dict[str, Tensor] = dict(self.model.named_parameters())
        for name, weight in moved.items():
            if weight.dim() > 1:
                kept = torch.rand(weight.shape, generator=generator).to(weight) >= d.stuck
                moved[name] = weight * kept * (1 + d.weight_spread * normal(weight))
        gains, spreads = {}, (d.gain_spread, d.offset_spread) if self._nodes else (0.0, 0.0)
        for node in find_nodes(self.model):
            bias = node.layer.get_parameter("bias")
            gain = (spreads[0] * normal(bias)).exp()
            gains[node.layer] = gain, spreads[1] * normal(bias)

        def distort(layer: nn.Module, entering: Tensor, a: Tensor) -> Tensor:
            gain, offset = gains[layer]
            return gain * a + offset + d.read_noise * normal(a)

        with _hooked(gains, distort):
            output: Tensor = functional_call(self.model, moved, (x,))
        return output


class PhysicsAware(nn.Module):
    """Forward through the box, backward through its model at what was measured.

    Wright et al., *Deep physical neural networks trained with backpropagation* (Nature 601, 2022).

    Args:
        box: with a model that calls every layer once.
        ends: the model also knows where the converters end: no credit goes to activities there.
    """

    def __init__(self, box: nn.Module, ends: bool = False) -> None:
        super().__init__()
        self.model = believed(box)
        assert isinstance(box, BlackBox)
        self.box = box
        self._reach = (box.expected or Distortions()).reach if ends else math.inf

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) → the box's output (B, outputs), with the gradient of the model."""
        inputs, activities, output = self.box.measure(x)
        layers = [node.layer for node in find_nodes(self.model)]
        places = {layer: i for i, layer in enumerate(layers)}
        met: set[nn.Module] = set()

        def enters(layer: nn.Module, entering: Tensor) -> Tensor:
            if layer in met:
                raise InputError("pat: the model calls a layer twice, and the box reports means")
            met.add(layer)
            return _as_measured(entering, inputs[places[layer]])

        def leaves(layer: nn.Module, entering: Tensor, a: Tensor) -> Tensor:
            measured = activities[places[layer]]
            return _as_measured(torch.where(measured.abs() < self._reach, a, 0), measured)

        with _hooked(places, leaves, enters):
            found: Tensor = self.model(x)
        return found if output is None else _as_measured(found, output)


def _as_measured(modelled: Tensor, measured: Tensor) -> Tensor:
    """Return what was measured, with the gradient of the model."""
    return modelled + (measured - modelled).detach()


@contextmanager
def _hooked(
    layers: Iterable[nn.Module],
    leaves: Callable[[nn.Module, Tensor, Tensor], Tensor],
    enters: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Change what enters and leaves layers, for one pass."""
    handles: list[RemovableHandle] = []
    for layer in layers:
        if enters is not None:
            before = layer.register_forward_pre_hook(
                lambda module, args: (enters(module, args[0]),)
            )
            handles.append(before)
        after = layer.register_forward_hook(
            lambda module, args, output: leaves(module, args[0], output)
        )
        handles.append(after)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
