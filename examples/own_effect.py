"""A user's own device effect: two-level noise, drawn by NumPy outside of PyTorch.

    python examples/own_effect.py

An effect is any module that maps activities to activities. As a subclass of `Effect` it can also
follow its layer in an `nn.Sequential`, or act on inputs or weights. The units here are hard signs,
whose derivative is zero; every training step makes two noisy forward passes. One entry in
EFFECT_CASES of tests/cases.py makes the project's tests check a new effect.
"""

import numpy as np
import torch
from torch import Tensor, nn

from noisynets import Effect, NodePerturbation, cross_entropy
from noisynets.systems.units import Sign
from noisynets.tasks import TASKS


class TwoLevels(Effect):
    """y = a ± level, with probability ½ each."""

    def __init__(self, level: float, seed: int) -> None:
        super().__init__()
        self.level = level
        self.random = np.random.default_rng(seed)

    def forward(self, a: Tensor) -> Tensor:
        """Add noise to activities: (B, *out) → (B, *out)."""
        signs = self.random.integers(0, 2, size=tuple(a.shape)) * 2 - 1
        return a + self.level * torch.from_numpy(signs).to(a)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state for `state_dict()`, so that runs can be continued."""
        state = self.random.bit_generator.state["state"]
        words = [state[key] >> shift & 0xFFFFFFFF for key in state for shift in range(0, 128, 32)]
        return torch.tensor(words)

    def set_extra_state(self, saved: Tensor) -> None:
        """Restore the generator's state from `load_state_dict()`."""
        parts = saved.view(2, 4).tolist()
        numbers = [sum(word << 32 * i for i, word in enumerate(part)) for part in parts]
        state = self.random.bit_generator.state
        state["state"] = dict(zip(state["state"], numbers, strict=True))
        self.random.bit_generator.state = state


def main(epochs: int = 2) -> float:
    """Train on MNIST and return the accuracy on the validation set, with the noise."""
    torch.manual_seed(0)
    train_set, validation = TASKS["mnist"].training()
    assert validation is not None
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        TwoLevels(0.3, seed=1),
        Sign(),
        nn.Linear(128, 10),
        TwoLevels(0.3, seed=2),
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
    torch.set_num_threads(1)  # more threads do not help with tensors as small as these
    main()
