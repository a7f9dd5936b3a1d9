"""Recordings of spikes and membrane potentials for figures; training rules do not use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.systems.spiking.neurons import Neuron


@dataclass(frozen=True)
class Recording:
    """Spikes and potentials of one population in one trial.

    Attributes:
        name: path of the population in the system.
        threshold: mean over its neurons.
        spikes: (B, T, *out).
        potential: membrane potentials after each step, (B, T, *out).
    """

    name: str
    threshold: float
    spikes: Tensor
    potential: Tensor

    @property
    def rate(self) -> float:
        """Mean number of spikes per neuron and step."""
        return float(self.spikes.mean())


@torch.no_grad()
def record(system: nn.Module, x: Tensor) -> list[Recording]:
    """Run a trial and record every population of neurons.

    Args:
        system: any module with `Neuron` modules in it.
        x: its inputs, (B, T, *in).

    Returns:
        One recording per population, in the order of their first call.

    >>> from noisynets.systems.spiking import Leaky, Spiking
    >>> net = Spiking(nn.Sequential(nn.Linear(4, 8), Leaky(0.9), nn.Linear(8, 3)), steps=10)
    >>> [r] = record(net, torch.rand(5, 1, 4))
    >>> r.name, r.spikes.shape
    ('network.1', torch.Size([5, 10, 8]))
    """
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with _recording_hooks(system, kept):
        system(x)
    neurons = dict(system.named_modules())
    return [
        Recording(
            name,
            threshold=float(torch.as_tensor(neurons[name].threshold).mean()),
            spikes=torch.stack([s for s, _ in steps], 1),
            potential=torch.stack([u for _, u in steps], 1),
        )
        for name, steps in kept.items()
    ]


@contextmanager
def _recording_hooks(
    system: nn.Module, kept: dict[str, list[tuple[Tensor, Tensor]]]
) -> Iterator[None]:
    def hook(name: str) -> Any:
        def store(module: Neuron, args: Any, spikes: Tensor) -> None:
            both = (
                t.detach().to("cpu", torch.float32, copy=True)
                for t in (spikes, module.step_state[-1])
            )
            kept.setdefault(name, []).append((next(both), next(both)))

        return store

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in system.named_modules()
        if isinstance(module, Neuron)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
