"""Read-outs: the output of a network, from the currents of its output layer during a trial.

A read-out is called with the currents of every step, and returns the output for the steps so far;
its return value in the last step is the output of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor

from noisynets.core.registry import Registry
from noisynets.core.trial import Population
from noisynets.systems.spiking.neurons import Constant, Neuron, decay, decay_factor


class Readout(Population):
    """Accumulates currents over a trial; a subclass defines `accumulate`.

    Attributes:
        final: True: only the output of the last step is used.
    """

    signals = ("current", "output")
    final = True

    fresh = MappingProxyType({"_sums": (), "_steps": 0})
    _sums: tuple[Tensor, ...]
    _steps: int

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add one step to the running values.

        Args:
            a: currents of the step, (B, *out).
            sums: return value of the previous step; () in the first step of a trial.

        Returns:
            Any internal state, then the running total, each (B, *out).
        """
        raise NotImplementedError

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Return the output after `steps` steps, (B, *out), from the running total."""
        return total

    def forward(self, a: Tensor) -> Tensor:
        """Run one step: currents (B, *out) → output so far (B, *out)."""
        wide = a.to(torch.promote_types(a.dtype, torch.float32))
        self._sums = self.accumulate(wide, self._sums)
        self._steps += 1
        return self.result(self._sums[-1], self._steps).to(a.dtype)


class MeanMembrane(Readout):
    """Mean potential of leaky integrators that never fire: u ← β u + a.

    Args:
        beta: β, decay factor of the potential per step.

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
        """Return the potential and its sum over the steps."""
        if not sums:
            return a, a
        u = decay(sums[0], self.beta, a)
        return u, sums[1] + u

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Return the mean over the steps."""
        return total / steps


class SpikeCount(Readout):
    """Number of spikes of output neurons.

    Args:
        neuron: receives the currents of the output layer.

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
        """Return the number of spikes so far."""
        s = self.neuron(a)
        return (sums[-1] + s if sums else s,)


class FirstSpike(Readout):
    """−(step of the first spike), counted from 0, or −T without a spike: the largest fires first.

    Args:
        neuron: receives the currents of the output layer.

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
        """Return 1 for neurons that have not fired, and the number of their steps."""
        s = self.neuron(a)
        silent = 1 - s if not sums else sums[0] * (1 - s)
        return silent, silent if not sums else sums[1] + silent

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Return minus the number of steps before the first spike."""
        return 0 - total


class MeanOutput(Readout):
    """Mean output over the steps: the read-out of a network that ends with neurons.

    >>> import torch
    >>> readout = MeanOutput()
    >>> [float(readout(torch.full((1, 1), v))) for v in (1.0, 0.0)]
    [1.0, 0.5]
    """

    def accumulate(self, a: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the sum so far."""
        return (sums[-1] + a if sums else a,)

    def result(self, total: Tensor, steps: int) -> Tensor:
        """Return the mean over the steps."""
        return total / steps


READOUTS: Registry[Callable[[Neuron, float], Readout]] = Registry(
    "read-out",
    {
        "membrane": lambda neuron, beta: MeanMembrane(beta),
        "count": lambda neuron, beta: SpikeCount(neuron),
        "first": lambda neuron, beta: FirstSpike(neuron),
    },
)
"""(output neurons, β) → the read-out."""
