"""Gradient descent that is written by pulses in every step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from noisynets.systems.pulses.layer import Pulsed
from noisynets.systems.pulses.optimiser import BURST, PulseOptimiser, rounded


class PulsedSGD(PulseOptimiser):
    """ΔW = −lr g, written as n = −lr g/(α Δw) pulses.

    With stochastic counts, n is rounded to ⌊n + u⌋ with u ~ U(0, 1), whose mean is n; with
    deterministic counts it is rounded to the nearest whole number, and what is below half a pulse
    is lost. So is what is above `burst`. In aihwkit, the trains of pulses of rows and columns meet
    at random, sample by sample; the mean is the same, and so is the variance while n is small.

    Args:
        system: with pulsed layers.
        lr: learning rate.
        stochastic: counts are stochastic.
        burst: pulses that one weight is given in a step, at most.

    Raises:
        InputError: as of `PulseOptimiser`.

    >>> import torch
    >>> layer = Pulsed(nn.Linear(2, 1), "ideal", scale=1.0)
    >>> optimiser = PulsedSGD(layer, lr=0.001)
    >>> layer.weight.grad = torch.tensor([[1.0, -0.6]])
    >>> optimiser.step()
    >>> layer.array.pulses.shape
    torch.Size([1, 2])
    """

    def __init__(
        self, system: nn.Module, lr: float, *, stochastic: bool = True, burst: int = BURST
    ) -> None:
        super().__init__(system, lr, burst=burst, stochastic=stochastic)

    def write_(
        self, layer: Pulsed, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Write −lr g at once."""
        wanted = gradient * (-group["lr"] / layer.step)
        n = rounded(wanted, layer) if group["stochastic"] else wanted.round()
        layer.pulse_(n.clamp_(-group["burst"], group["burst"]))
