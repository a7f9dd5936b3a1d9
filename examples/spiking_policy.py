"""A spiking network learns to balance a pole, by pairs of roll-outs.

    python examples/spiking_policy.py 0 1 2

32 leaky integrate-and-fire neurons act in CartPole: in every step of the environment they live
through five steps of their own, and the action is the read-out with the larger mean potential.
No derivative of neurons or environment is taken: noise is injected at the neurons' currents in one
roll-out of each pair, and what it did to the return is the credit.
"""

import sys

import torch
from torch import nn

from noisynets import RollOutPerturbation, negative_return
from noisynets.systems.spiking import Leaky, MeanMembrane, Spiking
from noisynets.tasks.environments import Episodes


def main(seed: int = 0, updates: int = 60, pairs: int = 20) -> float:
    """Train, and return the mean return of 100 fresh episodes, without injected noise."""
    torch.manual_seed(seed)
    neurons = nn.Sequential(nn.Linear(4, 32), Leaky(beta=0.9), nn.Linear(32, 2))
    network = Spiking(neurons, steps=5, readout=MeanMembrane(beta=0.9))
    system = Episodes(network, "CartPole-v1")  # seeds of episodes in, returns out
    estimator = RollOutPerturbation(
        system, negative_return, rule="innovation", sigma=0.5, discount=0.99, seed=seed
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for update in range(updates):
        first = (1000 * seed + update) * pairs
        seeds = torch.arange(first, first + pairs)[:, None]
        optimizer.zero_grad()
        estimate = estimator(seeds, torch.zeros(pairs))  # there are no targets
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {float(-estimate.loss.mean()):.0f}")
    system.eval()
    test = float(system(torch.arange(10**7, 10**7 + 100)[:, None]).mean())
    print(f"mean return of 100 fresh episodes {test:.1f}, {int(system.steps):,} steps of training")
    return test


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    for argument in sys.argv[1:] or ["0"]:
        main(int(argument))
