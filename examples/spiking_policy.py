"""A spiking network learns to balance a pole, by pairs of roll-outs.

    python examples/spiking_policy.py

32 leaky integrate-and-fire neurons act in CartPole: in every step of the environment they live
through five steps of their own, and the action is the read-out with the larger mean potential.
No derivative of neurons or environment is taken: noise is injected at the neurons' currents in one
roll-out of each pair, and what it did to the return is the credit.
"""

import torch
from torch import nn

from noisynets import RollOutPerturbation, negative_return
from noisynets.policy import Episodes
from noisynets.spiking import Leaky, MeanMembrane, Spiking


def main(updates: int = 60, pairs: int = 20) -> float:
    """Train, and return the mean return of 100 fresh episodes, without injected noise."""
    torch.manual_seed(0)
    neurons = nn.Sequential(nn.Linear(4, 32), Leaky(beta=0.9), nn.Linear(32, 2))
    network = Spiking(neurons, steps=5, readout=MeanMembrane(beta=0.9))
    system = Episodes(network, "CartPole-v1")  # seeds of episodes in, returns out
    estimator = RollOutPerturbation(
        system, negative_return, rule="innovation", sigma=0.5, discount=0.99
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for update in range(updates):
        seeds = torch.arange(update * pairs, (update + 1) * pairs)[:, None]
        optimizer.zero_grad()
        estimate = estimator(seeds, torch.zeros(pairs))  # there are no targets
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: mean return {float(-estimate.loss.mean()):.0f}")
    system.eval()
    test = float(system(torch.arange(10**6, 10**6 + 100)[:, None]).mean())
    print(f"mean return of 100 fresh episodes {test:.1f}, {int(system.steps):,} steps of training")
    return test


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    main()
