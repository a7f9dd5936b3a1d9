"""Read-outs: what is made of the output layer's currents in the course of a trial.

Each is called with the currents of one step after the other, and returns what it makes of all so
far; what the last step returns is the network's output.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor

from noisynets.core.registry import Registry
from noisynets.core.trial import Population
from noisynets.systems.spiking.neurons import Constant, Neuron, decayed, share


class Readout(Population):
    """Keeps an account over a trial; a subclass writes `count`.

    Attributes:
        final: its output counts at the last step.
    """

    signals = ("current", "output")
    final = True

    fresh = MappingProxyType({"_kept": (), "_steps": 0})
    _kept: tuple[Tensor, ...]
    _steps: int

    def count(self, a: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take in one step, (B, *out); the account so far comes last, and is () at first."""
        raise NotImplementedError

    def result(self, account: Tensor, steps: int) -> Tensor:
        """What the account says after some steps: (B, *out)."""
        return account

    def forward(self, a: Tensor) -> Tensor:
        """Currents of one step, (B, *out) → output so far, (B, *out)."""
        a_wide = a.to(torch.promote_types(a.dtype, torch.float32))
        self._kept = self.count(a_wide, self._kept)
        self._steps += 1
        return self.result(self._kept[-1], self._steps).to(a.dtype)


class MeanMembrane(Readout):
    """Mean potential of neurons that integrate, leak and never fire: u ← β u + a.

    Args:
        beta: share of the potential that is left after a step.

    >>> import torch
    >>> readout = MeanMembrane(beta=0.5)
    >>> [float(readout(torch.ones(1, 1))) for _ in range(2)]
    [1.0, 1.25]
    """

    beta: Constant

    def __init__(self, beta: float = 0.9) -> None:
        super().__init__()
        self.beta = share("beta", beta)

    def count(self, a: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Potential, and its sum."""
        if not kept:
            return a, a
        u = decayed(kept[0], self.beta, a)
        return u, kept[1] + u

    def result(self, account: Tensor, steps: int) -> Tensor:
        """Mean over the steps."""
        return account / steps


class SpikeCount(Readout):
    """Number of spikes of output neurons.

    Args:
        neuron: fires on the output layer's currents.

    >>> import torch
    >>> from noisynets.systems.spiking import Leaky
    >>> readout = SpikeCount(Leaky(beta=0.9))
    >>> [float(readout(torch.ones(1, 1))) for _ in range(3)]
    [0.0, 1.0, 2.0]
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def count(self, a: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Spikes so far."""
        s = self.neuron(a)
        return (kept[-1] + s if kept else s,)


class FirstSpike(Readout):
    """Minus the step of the first spike, counted from 0; −T without any: the first to fire wins.

    Args:
        neuron: fires on the output layer's currents.

    >>> import torch
    >>> from noisynets.systems.spiking import Leaky
    >>> readout = FirstSpike(Leaky(beta=1.0))
    >>> [readout(torch.tensor([[1.1, 0.6, 0.1]])).tolist()[0] for _ in range(2)]
    [[0.0, -1.0, -1.0], [0.0, -1.0, -2.0]]
    """

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def count(self, a: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Steps without a spike so far."""
        s = self.neuron(a)
        silent = 1 - s if not kept else kept[0] * (1 - s)
        return silent, silent if not kept else kept[1] + silent

    def result(self, account: Tensor, steps: int) -> Tensor:
        """Minus the steps before the first spike."""
        return 0 - account


class MeanOutput(Readout):
    """Mean of whatever the network gives: the read-out of a net that ends with neurons.

    >>> import torch
    >>> readout = MeanOutput()
    >>> [float(readout(torch.full((1, 1), v))) for v in (1.0, 0.0)]
    [1.0, 0.5]
    """

    def count(self, a: Tensor, kept: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sum so far."""
        return (kept[-1] + a if kept else a,)

    def result(self, account: Tensor, steps: int) -> Tensor:
        """Mean over the steps."""
        return account / steps


READOUTS: Registry[Callable[[Neuron, float], Readout]] = Registry(
    "read-out",
    {
        "membrane": lambda neuron, beta: MeanMembrane(beta),
        "count": lambda neuron, beta: SpikeCount(neuron),
        "first": lambda neuron, beta: FirstSpike(neuron),
    },
)
"""(output neurons, β) → the read-out."""
