"""Optimisers that accumulate updates digitally and write when a pulse's worth is due."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from noisynets.core.errors import InputError
from noisynets.systems.checks import at_least_one, positive
from noisynets.systems.pulses.layer import Pulsed
from noisynets.systems.pulses.optimiser import BURST, PulseOptimiser


class ThresholdSGD(PulseOptimiser):
    """χ ← χ − lr g; where |χ| ≥ θ α Δw, n = trunc(χ/(α Δw)) pulses are written, and χ ← χ − n α Δw.

    χ is digital. Nothing is lost by rounding. A threshold θ above 1 writes later and more at once:
    noise of the gradient that averages out in between is not written.

    With `read_back`, χ is reduced by what a read shows to have been written, in place of what n
    pulses are on average: W + χ is then the weight of plain SGD, whatever the device does within
    its bounds. On a device with noise of writing it corrects that noise in every step, which costs
    many pulses.

    Args:
        system: with pulsed layers.
        lr: learning rate.
        threshold: θ, in mean steps; at least 1.
        read_back: read what was written.
        burst: pulses that one weight is given in a step, at most; what is more stays in χ.

    Raises:
        InputError: as of `PulseOptimiser`.

    >>> layer = Pulsed(nn.Linear(1, 1), "ideal", scale=1.0)
    >>> optimiser = ThresholdSGD(layer, lr=0.00015)
    >>> layer.weight.grad, counts = torch.ones(1, 1), []
    >>> for _ in range(4):
    ...     optimiser.step()
    ...     counts.append(layer.array.pulses.item())
    >>> counts
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        system: nn.Module,
        lr: float,
        *,
        threshold: float = 1.0,
        read_back: bool = False,
        burst: int = BURST,
    ) -> None:
        positive(threshold=threshold)
        if threshold < 1 or threshold > burst:
            raise InputError(f"threshold {threshold:g} must be from 1 to burst, {burst}")
        super().__init__(system, lr, burst=burst, threshold=threshold, read_back=read_back)

    def write_(
        self, layer: Pulsed, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Accumulate −lr g, and write what is due."""
        chi = state.setdefault("chi", torch.zeros_like(gradient))
        chi.sub_(gradient, alpha=group["lr"])
        due = chi.abs() >= group["threshold"] * layer.step
        n = torch.where(due, whole(chi, layer, group["burst"]), 0)
        before = layer.weight.clone() if group["read_back"] else None
        layer.pulse_(n)
        chi.sub_(n * layer.step if before is None else layer.weight - before)


class MixedPrecisionSGD(PulseOptimiser):
    """χ ← χ − lr g; in every m-th step n = trunc(χ/ε) pulses are written, χ ← χ − n ε, ε = α Δw.

    Nandakumar et al., *Mixed-precision deep learning based on computational memory* (Frontiers in
    Neuroscience 14 (2020) 406): the products of the forward pass are made on devices, χ and the
    gradients are digital. What was written is not read.

    Args:
        system: with pulsed layers.
        lr: learning rate.
        every: m.
        burst: pulses that one weight is given at once, at most; what is more stays in χ.

    Raises:
        InputError: as of `PulseOptimiser`.
    """

    def __init__(self, system: nn.Module, lr: float, *, every: int = 1, burst: int = BURST) -> None:
        at_least_one(every=every)
        super().__init__(system, lr, burst=burst, every=every)

    def write_(
        self, layer: Pulsed, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Accumulate −lr g, and write whole steps."""
        chi = state.setdefault("chi", torch.zeros_like(gradient))
        chi.sub_(gradient, alpha=group["lr"])
        state["steps"] = state.get("steps", 0) + 1
        if state["steps"] % group["every"] == 0:
            n = whole(chi, layer, group["burst"])
            layer.pulse_(n)
            chi.sub_(n * layer.step)


def whole(value: Tensor, layer: Pulsed, burst: int) -> Tensor:
    """Return the whole pulses in a value, towards 0, and `burst` at most.

    Args:
        value: in units of W.
        layer: whose mean step is the unit.
        burst: the largest number.
    """
    return (value / layer.step).trunc_().clamp_(-burst, burst)
