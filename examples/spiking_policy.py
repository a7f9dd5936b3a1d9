"""A spiking network learns to balance a pole from pairs of roll-outs.

    python examples/spiking_policy.py 0 1 2          # one training for each seed

The policy for CartPole has 32 leaky integrate-and-fire neurons. They run for five time steps in
every step of the environment; the action is that of the read-out with the larger mean potential.
No derivatives are used: noise is injected into the neurons' currents in one roll-out of each pair,
and credit is computed from the change of the return.
"""

import sys

import torch
from torch import nn

from noisynets import RollOutPerturbation, negative_return
from noisynets.systems.spiking import Leaky, MeanMembrane, Spiking
from noisynets.tasks.environments import Episodes


def main(seed: int = 0, updates: int = 60, pairs: int = 20) -> float:
    """Train, and return the mean return of 100 new episodes without injected noise."""
    torch.manual_seed(seed)
    neurons = nn.Sequential(nn.Linear(4, 32), Leaky(beta=0.9), nn.Linear(32, 2))
    network = Spiking(neurons, steps=5, readout=MeanMembrane(beta=0.9))
    system = Episodes(network, "CartPole-v1")  # maps episode seeds to returns
    estimator = RollOutPerturbation(
        system, negative_return, rule="innovation", sigma=0.5, discount=0.99, seed=seed
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for update in range(updates):
        first = (1000 * seed + update) * pairs
        seeds = torch.arange(first, first + pairs)[:, None]
        optimizer.zero_grad()
        estimate = estimator(seeds, torch.zeros(pairs))  # the targets are not used
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {float(-estimate.loss.mean()):.0f}")
    system.eval()
    test = float(system(torch.arange(10**7, 10**7 + 100)[:, None]).mean())
    print(f"mean return of 100 new episodes {test:.1f}, {int(system.steps):,} training steps")
    return test


if __name__ == "__main__":
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    for argument in sys.argv[1:] or ["0"]:
        main(int(argument))
