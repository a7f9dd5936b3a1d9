"""A user's own unit: a discontinuous staircase that rises and falls, with a dead zone.

    python examples/own_unit.py

A unit can be any module, because node perturbation needs only the activities before it. Here noise
of standard deviation σ is injected into these activities; every training step makes two forward
passes. One entry in UNIT_CASES of tests/cases.py makes the project's tests check a new unit.
"""

import torch
from torch import Tensor, nn

from noisynets import NodePerturbation, cross_entropy
from noisynets.tasks import TASKS


class Fold(nn.Module):
    """Rises in `steps` steps from 0 at |a| ≤ dead to 1 at |a| = 1, then falls back to 0."""

    def __init__(self, steps: int = 4, dead: float = 0.2) -> None:
        super().__init__()
        self.steps, self.dead = steps, dead

    def forward(self, a: Tensor) -> Tensor:
        """Map activities of any shape to outputs of the same shape."""
        rise = ((a.abs() - self.dead) / (1 - self.dead)).clamp(0, 2)
        folded = 1 - (rise - 1).abs()
        return (folded * self.steps).floor() / self.steps


def main(epochs: int = 2) -> float:
    """Train on MNIST and return the accuracy on the validation set."""
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), Fold(), nn.Linear(128, 10))
    estimator = NodePerturbation(model, cross_entropy, rule="anp", sigma=0.3)
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
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    main()
