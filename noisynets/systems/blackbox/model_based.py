"""Training with a model of the box: on the model, or with its derivatives.

These are baselines: they read the weights and take derivatives of the model.
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
from noisynets.core.noise import generator
from noisynets.systems.blackbox.module import BlackBox, BoxLayer
from noisynets.systems.blackbox.tiles import Distortions


def tie_weights(model: nn.Module, box_layers: list[BoxLayer]) -> nn.Module:
    """Replace the weights of a model's layers by those of a box, from the inputs to the output.

    Raises:
        InputError: if the shapes differ.

    >>> box_layer = BoxLayer(3, 2)
    >>> model = tie_weights(nn.Sequential(nn.Linear(3, 2)), [box_layer])
    >>> model[0].weight is box_layer.weight
    True
    """
    layers = [node.layer for node in find_nodes(model)]
    shapes = [layer.get_parameter("weight").shape for layer in layers]
    expected = [layer.weight.shape for layer in box_layers]
    if shapes != expected:
        given = ", ".join(str(tuple(shape)) for shape in shapes)
        raise InputError(
            f"the model has weights of shapes {given} where the box has "
            f"{', '.join(str(tuple(shape)) for shape in expected)}"
        )
    for layer, box_layer in zip(layers, box_layers, strict=True):
        for name, parameter in box_layer.named_parameters():
            layer.register_parameter(name, parameter)
    return model


def box_model(box: nn.Module) -> nn.Module:
    """Return the model of a box.

    Raises:
        InputError: if `box` is not a `BlackBox`, or has no model.
    """
    if not isinstance(box, BlackBox) or box.model is None:
        raise InputError(
            f"{type(box).__name__} has no model: give BlackBox(box, model=...) one, or train a box "
            "with mirrored and any other system with bp"
        )
    return box.model


class HardwareAware(nn.Module):
    """The model of a box with new random distortions in every pass: hardware-aware training.

    Weight errors, stuck weights and read noise have the sizes expected of the chip, as in aihwkit's
    training before a chip is programmed (Rasch et al., *Hardware-aware training for large-scale and
    diverse deep learning inference workloads using in-memory computing-based accelerators*, 2023).
    Converters are left out, because rounding has no useful derivative.

    Args:
        box: a `BlackBox` with a model.
        node_distortions: also draw gains and offsets of the nodes, so that every kind of distortion
            of the chip is covered: domain randomisation (Tobin et al. 2017).
        seed: of the distortions.
    """

    def __init__(self, box: nn.Module, node_distortions: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.model = box_model(box)
        assert isinstance(box, BlackBox)
        self._node_distortions = node_distortions
        self._box, self._seed = (box,), seed  # in a tuple: model and box share their weights

    def forward(self, x: Tensor) -> Tensor:
        """Run the distorted model: (B, ...) → (B, outputs)."""
        (box,) = self._box
        d = box.expected or Distortions()
        drawn_by = generator(self._seed, f"distortions in pass {box.model_draws}")
        box.model_draws += 1

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=drawn_by).to(like)

        distorted: dict[str, Tensor] = dict(self.model.named_parameters())
        for name, weight in distorted.items():
            if weight.dim() > 1:
                working = torch.rand(weight.shape, generator=drawn_by).to(weight) >= d.stuck
                distorted[name] = weight * working * (1 + d.weight_spread * normal(weight))
        spreads = (d.gain_spread, d.offset_spread) if self._node_distortions else (0.0, 0.0)
        gains: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for node in find_nodes(self.model):
            bias = node.layer.get_parameter("bias")
            gain = (spreads[0] * normal(bias)).exp()
            gains[node.layer] = gain, spreads[1] * normal(bias)

        def distort(layer: nn.Module, entering: Tensor, a: Tensor) -> Tensor:
            gain, offset = gains[layer]
            return gain * a + offset + d.read_noise * normal(a)

        with _hooked(gains, distort):
            output: Tensor = functional_call(self.model, distorted, (x,))
        return output


class PhysicsAware(nn.Module):
    """Forward through the box, backward through its model at the measured values.

    Wright et al., *Deep physical neural networks trained with backpropagation* (Nature 601, 2022).

    Args:
        box: a `BlackBox` with a model that calls every layer once.
        saturation: also use the range of the box's converters: activities outside it get no
            gradient.
    """

    def __init__(self, box: nn.Module, saturation: bool = False) -> None:
        super().__init__()
        self.model = box_model(box)
        assert isinstance(box, BlackBox)
        self.box = box
        self._bound = (box.expected or Distortions()).bound if saturation else math.inf

    def forward(self, x: Tensor) -> Tensor:
        """Run the box: (B, ...) → its output (B, outputs), with the gradient of the model."""
        inputs, activities, output = self.box.measure(x)
        layers = [node.layer for node in find_nodes(self.model)]
        index = {layer: i for i, layer in enumerate(layers)}
        called: set[nn.Module] = set()

        def enters(layer: nn.Module, entering: Tensor) -> Tensor:
            if layer in called:
                raise InputError(
                    "pat: the model calls a layer more than once per pass, but the box reports "
                    "only means over a trial: use a model that calls every layer once"
                )
            called.add(layer)
            return _as_measured(entering, inputs[index[layer]])

        def leaves(layer: nn.Module, entering: Tensor, a: Tensor) -> Tensor:
            measured = activities[index[layer]]
            return _as_measured(torch.where(measured.abs() < self._bound, a, 0), measured)

        with _hooked(index, leaves, enters):
            computed: Tensor = self.model(x)
        return computed if output is None else _as_measured(computed, output)


def _as_measured(computed: Tensor, measured: Tensor) -> Tensor:
    """Return the measured value with the gradient of the computed one."""
    return computed + (measured - computed).detach()


@contextmanager
def _hooked(
    layers: Iterable[nn.Module],
    leaves: Callable[[nn.Module, Tensor, Tensor], Tensor],
    enters: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> Iterator[None]:
    """Replace the inputs and outputs of layers within the context."""
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
