"""Read-outs: what is made of the output layer's currents in the course of a trial.

Each is called with the currents of one step after the other, and returns what it makes of all so
far; what the last step returns is the network's output.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from torch import Tensor

from noisynets.core.trial import wide
from noisynets.core.types import Population
from noisynets.systems.spiking.neurons import Constant, Neuron, decay, decay_factor


class Readout(Population):
    """Keeps an total over a trial; a subclass writes `count`.

    Attributes:
        final: its output counts at the last step.
    """

    signals = ("current", "output")
    final = True

    fresh = MappingProxyType({"_sums": (), "_steps": 0})
    _sums: tuple[Tensor, ...]
    _steps: int

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Take in one step, (B, *out); the total so far comes last, and is () at first."""
        raise NotImplementedError

    def result(self, total: Tensor, steps: int) -> Tensor:
        """What the total says after some steps: (B, *out)."""
        return total

    def forward(self, a: Tensor) -> Tensor:
        """Currents of one step, (B, *out) → output so far, (B, *out)."""
        self._sums = self.accumulate(wide(a), self._sums)
        self._steps += 1
        return self.result(self._sums[-1], self._steps).to(a.dtype)


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
        self.beta = decay_factor("beta", beta)

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Potential, and its sum."""
        if not sums:
            return a, a
        u = decay(sums[0], self.beta, a)
        return u, sums[1] + u

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Mean over the steps."""
        return total / steps


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

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Spikes so far."""
        s = self.neuron(a)
        return (sums[-1] + s if sums else s,)


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

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Steps without a spike so far."""
        s = self.neuron(a)
        silent = 1 - s if not sums else sums[0] * (1 - s)
        return silent, silent if not sums else sums[1] + silent

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Minus the steps before the first spike."""
        return 0 - total


class MeanOutput(Readout):
    """Mean of whatever the network gives: the read-out of a net that ends with neurons.

    >>> import torch
    >>> readout = MeanOutput()
    >>> [float(readout(torch.full((1, 1), v))) for v in (1.0, 0.0)]
    [1.0, 0.5]
    """

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Sum so far."""
        return (sums[-1] + a if sums else a,)

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Mean over the steps."""
        return total / steps


READOUTS: dict[str, Callable[[Neuron, float], Readout]] = {
    "membrane": lambda neuron, beta: MeanMembrane(beta),
    "count": lambda neuron, beta: SpikeCount(neuron),
    "first": lambda neuron, beta: FirstSpike(neuron),
}
"""(output neurons, β) → the read-out."""
