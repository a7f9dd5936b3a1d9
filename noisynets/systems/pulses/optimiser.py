"""What optimisers that write by pulses share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.decorrelation import DecorrelatedConv2d
from noisynets.core.errors import Diverged, InputError
from noisynets.systems.checks import at_least_one, positive
from noisynets.systems.pulses.layer import Pulsed, pulsed_layers

BURST = 31
"""Pulses that an optimiser gives one weight in a step, at most; aihwkit's `desired_bl`."""


class PulseOptimiser(torch.optim.Optimizer):
    """An optimiser that changes the weights of pulsed layers by pulses; abstract.

    All other parameters (biases, gains of norms, layers that are not pulsed) get plain SGD: p ← p −
    lr g. Gradients may come from any estimator, or from autograd. The counts of pulses are in the
    arrays of the layers, and everything else in `state_dict()`: save both.

    Args:
        system: with pulsed layers.
        lr: learning rate; the steps of pulsed weights are in units of W, too.
        burst: pulses that one weight is given in a step, at most.
        settings: of the subclass.

    Raises:
        InputError: for a system without pulsed layers, weights that two of them share, decorrelated
            convolutions that are pulsed, or a setting out of range.
        Diverged: in a step, for gradients that are not finite.
    """

    def __init__(
        self, system: nn.Module, lr: float, *, burst: int = BURST, **settings: Any
    ) -> None:
        positive(lr=lr)
        at_least_one(burst=burst)
        layers = pulsed_layers(system)
        if not layers:
            raise InputError(
                f"{type(system).__name__} has no pulsed layers: wrap its layers in Pulsed(layer)"
            )
        for name, module in system.named_modules():
            if isinstance(module, DecorrelatedConv2d) and pulsed_layers(module):
                raise InputError(
                    f"{name!r}: a decorrelated convolution has another kernel in every step, which "
                    "pulsed devices cannot hold: use a rule that does not decorrelate"
                )
        self.layers: dict[Tensor, tuple[str, Pulsed]] = {}
        for name, layer in layers.items():
            if layer.weight in self.layers:
                other = self.layers[layer.weight][0]
                raise InputError(f"{name!r} and {other!r} share weights: pulse one of them alone")
            self.layers[layer.weight] = name, layer
        super().__init__(system.parameters(), {"lr": lr, "burst": burst, **settings})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Write the weights once.

        Args:
            closure: computes the loss and the gradients again; None: they are there.

        Returns:
            What the closure returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter not in self.layers:
                    parameter.sub_(parameter.grad, alpha=group["lr"])
                    continue
                name, layer = self.layers[parameter]
                if not bool(parameter.grad.isfinite().all()):
                    raise Diverged(f"{name!r}: a gradient is not finite: lower the learning rate")
                self.write_(layer, parameter.grad, group, self.state[parameter])
        return loss

    @abstractmethod
    def write_(
        self, layer: Pulsed, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Write the weights of one layer.

        Args:
            layer: the layer.
            gradient: g, (*weight).
            group: settings.
            state: of this layer, empty at first.
        """


def rounded(wanted: Tensor, layer: Pulsed) -> Tensor:
    """Round to whole numbers at random, so that the mean is kept: ⌊n + u⌋, u ~ U(0, 1).

    Args:
        wanted: n, of any shape.
        layer: whose stream of random numbers is used.
    """
    u = torch.empty_like(wanted).uniform_(generator=layer.array.stream.on(wanted.device))
    return (wanted + u).floor_()
