"""Train a network whose noise is yours, inside, and out of reach: no derivatives, no noise read.

    python examples/own_noise.py

The units are hard signs, whose derivative is zero everywhere, and the noise is drawn by a
generator that the trainer never sees. Two forward passes per step, both noisy.
"""

import numpy as np
import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, Noisy, cross_entropy
from noisynets.data import TASKS


class Telegraph(nn.Module):
    """Noise that jumps between two levels, drawn by NumPy, behind the activities."""

    def __init__(self, level: float, seed: int) -> None:
        super().__init__()
        self.level = level
        self.random = np.random.default_rng(seed)

    def forward(self, a: Tensor) -> Tensor:
        """(B, n) → (B, n)."""
        jumps = self.random.integers(0, 2, size=tuple(a.shape)) * 2 - 1
        return a + self.level * torch.from_numpy(jumps).to(a)


class Sign(nn.Module):
    """sign(a): the backward pass through it carries nothing."""

    def forward(self, a: Tensor) -> Tensor:
        """(B, n) → (B, n)."""
        return torch.sign(a)


def main(epochs: int = 2) -> float:
    """Train on MNIST; return the accuracy on the validation set, in the noise."""
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = nn.Sequential(
        nn.Flatten(),
        Noisy(nn.Linear(784, 128), Telegraph(0.3, seed=1)),
        Sign(),
        Noisy(nn.Linear(128, 10), Telegraph(0.3, seed=2)),
    )
    estimator = NodePerturbation(model, cross_entropy, rule="anp", sigma=None)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for index in torch.randperm(len(train_set)).split(100):
            optimizer.zero_grad()
            estimator(*train_set.batch(index, torch.float32))
            optimizer.step()
        x, y = validation.batch(slice(None), torch.float32)
        with torch.no_grad():
            accuracy = float((model(x).argmax(1) == y).float().mean())
        print(f"epoch {epoch + 1}: validation accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    torch.set_num_threads(1)  # tensors this small gain nothing from more
    main()
