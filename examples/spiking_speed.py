"""Speed of spiking neurons: a forward pass, compared with plain PyTorch and with snnTorch.

    python examples/spiking_speed.py

The implementations are timed alternately in one process; ratios are printed as median and
quartiles. All of them must give the same spikes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles

import snntorch
import torch
from torch import Tensor, nn

from noisynets.cli.parser import arguments
from noisynets.systems.spiking import Leaky, MeanOutput, Spiking

BETA, THRESHOLD = 0.9, 1.0


@dataclass(frozen=True)
class Settings:
    """Sizes of the forward pass."""

    steps: int = 25
    """T."""
    batch: int = 128
    """Batch size."""
    turns: int = 21
    """Number of timings."""
    threads: int = 1
    """Number of CPU threads."""


def layers() -> tuple[nn.Linear, nn.Linear]:
    """Return the two layers, with the same weights in every call."""
    torch.manual_seed(0)
    return nn.Linear(784, 1000), nn.Linear(1000, 10)


def ours(steps: int) -> Callable[[Tensor], Tensor]:
    """Return the network with the neurons of noisynets."""
    first, last = layers()
    network = nn.Sequential(first, Leaky(BETA), last, Leaky(BETA))
    net = Spiking(network, steps, MeanOutput())
    return lambda x: net(x.unsqueeze(1))


def by_hand(steps: int) -> Callable[[Tensor], Tensor]:
    """Return the same network written as a loop in plain PyTorch."""
    first, last = layers()

    def forward(x: Tensor) -> Tensor:
        u1, s1 = torch.zeros(len(x), 1000), torch.zeros(len(x), 1000)
        u2, s2, total = torch.zeros(len(x), 10), torch.zeros(len(x), 10), torch.zeros(len(x), 10)
        for _ in range(steps):
            u1 = BETA * u1 + first(x) - THRESHOLD * s1
            s1 = (u1 > THRESHOLD).float()
            u2 = BETA * u2 + last(s1) - THRESHOLD * s2
            s2 = (u2 > THRESHOLD).float()
            total = total + s2
        return total / steps

    return forward


def by_snntorch(steps: int) -> Callable[[Tensor], Tensor]:
    """Return the same network with snnTorch's neurons, written as in its tutorials."""
    first, last = layers()
    one, two = snntorch.Leaky(beta=BETA), snntorch.Leaky(beta=BETA)

    def forward(x: Tensor) -> Tensor:
        u1, u2 = one.init_leaky(), two.init_leaky()
        spikes = []
        for _ in range(steps):
            s1, u1 = one(first(x), u1)
            s2, u2 = two(last(s1), u2)
            spikes.append(s2)
        return torch.stack(spikes).mean(0)

    return forward


def alone(make: str, steps: int) -> Callable[[Tensor], Tensor]:
    """Return 1000 neurons without layers, driven by a given current."""
    ours, theirs = Leaky(BETA), snntorch.Leaky(beta=BETA)

    def forward(a: Tensor) -> Tensor:
        u, s, total = torch.zeros_like(a), torch.zeros_like(a), torch.zeros_like(a)
        ours.forget()
        state = theirs.init_leaky()
        for _ in range(steps):
            if make == "ours":
                s = ours(a)
            elif make == "by hand":
                u = BETA * u + a - THRESHOLD * s
                s = (u > THRESHOLD).float()
            else:
                s, state = theirs(a, state)
            total = total + s
        return total / steps

    return forward


@torch.no_grad()
def ratios(runs: dict[str, Callable[[Tensor], Tensor]], x: Tensor, turns: int) -> None:
    """Time the runs alternately and print their times relative to the loop in plain PyTorch."""
    outputs = {name: run(x) for name, run in runs.items()}
    for name, output in outputs.items():
        assert torch.equal(output, outputs["by hand"]), f"{name} gives different spikes"
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            start = time.perf_counter()
            run(x)
            seconds[name].append(time.perf_counter() - start)
    for name, spent in seconds.items():
        low, middle, high = quantiles(
            (s / h for s, h in zip(spent, seconds["by hand"], strict=True)), n=4
        )
        print(f"  {name:10s} {middle:.2f} ({low:.2f}..{high:.2f})")


def main(settings: Settings) -> None:
    """Time networks, then neurons alone."""
    s = settings
    torch.set_num_threads(s.threads)
    torch.manual_seed(1)
    x, a = torch.rand(s.batch, 784), 0.5 * torch.randn(s.batch, 1000) + 0.3
    print(f"time relative to the loop by hand, T={s.steps}, B={s.batch}, {s.threads} thread(s)")
    print(" 784-1000-10")
    nets = {"by hand": by_hand, "ours": ours, "snnTorch": by_snntorch}
    ratios({name: make(s.steps) for name, make in nets.items()}, x, s.turns)
    print(" 1000 neurons without layers")
    ratios({name: alone(name, s.steps) for name in nets}, a, s.turns)


if __name__ == "__main__":
    main(arguments(Settings))
