"""A user's own simulator, run in a separate process and trained from pairs of its runs.

    noisynets check-box "python examples/own_box.py --serve"    # checks the simulator
    python examples/own_box.py                                  # trains it on two half-moons

The part between the lines is all that a black box needs. Here it is a network of saturating
amplifiers whose noise grows with the signal.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from noisynets import NodePerturbation, cross_entropy
from noisynets.systems.blackbox import BlackBox, Layer, Measured, ProcessBox, Reading, serve


# ------------------------------------------------------------------------------------------------
class Amplifiers:
    """2-32-32-2 with y = tanh(a) after every hidden layer and noise of σ = 0.05 + 0.1 |a|."""

    layers = (Layer(2, 32), Layer(32, 32), Layer(32, 2))

    def run(self, weights, x, trial):
        """Run a batch x (R, 2) and return the measured input and activity of every layer."""
        noise, seen = np.random.default_rng(trial), []
        for weight, bias in weights:
            x = np.tanh(seen[-1].activities) if seen else x
            a = x @ weight.T + bias
            a += (0.05 + 0.1 * np.abs(a)) * noise.standard_normal(a.shape)
            seen.append(Measured(x, a.astype(np.float32)))
        return Reading(seen)


# ------------------------------------------------------------------------------------------------


def moons(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points on two interleaved half-circles, with noise: points (n, 2), labels (n,)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    angle = torch.pi * torch.rand(n, generator=generator)
    side = 1.0 - 2.0 * y
    x = torch.stack([side * angle.cos() + y, side * angle.sin() + 0.5 * y], 1)
    return x + 0.1 * torch.randn(n, 2, generator=generator), y


def main(steps: int = 600, rule: str = "mirrored") -> float:
    """Train the box and return its accuracy on new points."""
    box = ProcessBox([sys.executable, str(Path(__file__)), "--serve"])
    system = BlackBox(box)
    estimator = NodePerturbation(system, cross_entropy, rule, sigma=None)
    torch.manual_seed(0)
    for layer in system.layers:
        torch.nn.init.normal_(layer.weight, std=(1 / layer.in_features) ** 0.5)
        torch.nn.init.zeros_(layer.bias)
    optimiser = torch.optim.Adam(system.parameters(), lr=1e-2)
    x, y = moons(2000, seed=1)
    for index in torch.randint(2000, (steps, 50)):
        optimiser.zero_grad()
        estimator(x[index], y[index])  # one run of the box with 100 rows: 50 pairs
        optimiser.step()
    x, y = moons(1000, seed=2)
    accuracy = (system(x).argmax(1) == y).float().mean().item()
    box.close()
    return accuracy


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve(Amplifiers())
    else:
        for rule in ("mirrored", "learned", "frozen"):
            print(f"{rule:10s} accuracy on the box {main(rule=rule):.3f}")
