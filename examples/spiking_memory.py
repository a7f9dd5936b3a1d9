"""Memory of a training step over a long trial: backpropagation through time and forward pairs.

    python examples/spiking_memory.py 2> /dev/null

The network is 784-1000-10 with a constant input current. PyTorch's profiler records allocations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import snntorch
import torch
from torch import Tensor, nn

from noisynets import Backpropagation, NodePerturbation, cross_entropy
from noisynets.bench.steps import memory
from noisynets.cli.parser import arguments
from noisynets.rules import RULES, OverTrial
from noisynets.systems.spiking import Spiking, adapt

KINDS = ("BPTT, snnTorch", "BPTT, ours", "mirrored, trial", "anp, trial", "anp, steps")


@dataclass(frozen=True)
class Settings:
    """Sizes of the trials."""

    steps: tuple[int, ...] = (25, 100)
    """Values of T."""
    batch: int = 128
    """Batch size."""


def by_snntorch(network: nn.Sequential, x: Tensor, steps: int) -> Tensor:
    """Return the mean output of a network of snnTorch's neurons, run as in its tutorials."""
    first, lif, last = network
    out = snntorch.Leaky(beta=0.9, reset_mechanism="none")
    potential, u = out.init_leaky(), lif.init_leaky()
    found = []
    for _ in range(steps):
        spikes, u = lif(first(x), u)
        _, potential = out(last(spikes), potential)
        found.append(potential)
    return torch.stack(found).mean(0)


def step(kind: str, steps: int, batch: int) -> None:
    """Compute the gradients of one training step."""
    tutorial = kind == "BPTT, snnTorch"
    x, y = torch.rand(batch, 784), torch.randint(10, (batch,))
    neuron = snntorch.Leaky(beta=0.9, init_hidden=not tutorial)
    network = nn.Sequential(nn.Linear(784, 1000), neuron, nn.Linear(1000, 10))
    if tutorial:
        cross_entropy(by_snntorch(network, x, steps), y).mean().backward()
        return
    net = Spiking(adapt(network), steps)
    rule, _, over = kind.partition(", ")
    if rule == "BPTT":
        Backpropagation(net, cross_entropy)(x.unsqueeze(1), y)
    else:
        made = RULES[rule].make(0)
        made = OverTrial(made) if over == "trial" else made
        estimator = NodePerturbation(net, cross_entropy, made, sigma=0.3)
        estimator(x.unsqueeze(1), y)


def main(settings: Settings) -> None:
    """Print the memory of every kind of step."""
    torch.set_num_threads(1)
    for steps in settings.steps:
        print(f"T={steps}, B={settings.batch}")
        found = {}
        for kind in KINDS:
            step(kind, 1, 2)
            found[kind] = memory(partial(step, kind, steps, settings.batch))
            share = found[kind] / found[KINDS[0]]
            print(f"  {kind:16s} {found[kind]:7.1f} MiB, {share:.2f} of BPTT through snnTorch")


if __name__ == "__main__":
    main(arguments(Settings))
